//! The `marrowflag` command.

use std::process::ExitCode;

use clap::Parser as _;
use marrowflag::{
    app, cli,
    config::{Cli, Command},
    telemetry,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors. A closed terminal changes neither.
            let _ = error.print();
            let exit = if error.use_stderr() {
                cli::Exit::Usage
            } else {
                cli::Exit::Done
            };
            return ExitCode::from(exit.code());
        }
    };
    telemetry::start(&cli.log);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime");
            return ExitCode::from(cli::Exit::Io.code());
        }
    };
    let exit = runtime.block_on(async {
        match cli.command {
            Command::Serve(settings) => app::serve(*settings).await,
            command => cli::run(command).await,
        }
    });
    ExitCode::from(exit.code())
}
