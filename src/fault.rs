//! Points at which a test build (`--features fault-injection`) can be told to die, as by SIGKILL: no
//! destructor runs, nothing is flushed. In any other build the points, their names too, do not exist.

/// Dies here, when told to.
#[cfg(feature = "fault-injection")]
macro_rules! crash_point {
    ($name:literal) => {
        fail::fail_point!($name)
    };
}
#[cfg(not(feature = "fault-injection"))]
macro_rules! crash_point {
    ($name:literal) => {};
}

/// Dies in a moment, when told to: while what follows is under way.
#[cfg(feature = "fault-injection")]
macro_rules! crash_point_meanwhile {
    ($name:literal) => {
        std::thread::spawn(|| fail::fail_point!($name))
    };
}
#[cfg(not(feature = "fault-injection"))]
macro_rules! crash_point_meanwhile {
    ($name:literal) => {};
}

pub(crate) use {crash_point, crash_point_meanwhile};

/// From now on the process dies when it comes to a point for the so-manieth time: `NAME=TIMES`.
/// `false`: that is not how it is said.
#[cfg(feature = "fault-injection")]
pub(crate) fn arm(point: &str) -> bool {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let Some((name, times)) = point.split_once('=') else {
        return false;
    };
    let Ok(times) = times.parse::<usize>() else {
        return false;
    };
    let came = AtomicUsize::new(0);
    let die = move || {
        if came.fetch_add(1, Ordering::SeqCst) + 1 >= times {
            let own = rustix::process::getpid();
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        }
    };
    fail::cfg_callback(name, die).is_ok()
}
