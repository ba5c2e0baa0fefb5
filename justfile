# What a developer types. CI runs `.ci/run`, which is these and what they need installed.

# Start the service on a database of its own, with the example's date as the time.
run:
    cargo run --release -- serve --as-of sampled

# Everything that must hold before a commit.
check: fmt lint deny test

fmt:
    cargo fmt --check

lint:
    cargo clippy --all-targets --locked -- -D warnings
    cargo clippy --test crash_points --features fault-injection --locked -- -D warnings

test:
    cargo test --locked

deny:
    cargo deny check

# The rule book for readers of the repository; a test keeps it current.
rule-book:
    MARROWFLAG_BLESS=1 cargo test --test rule_book

# How often each rule fires over a folder of FHIR files.
fired DIR:
    cargo build
    find {{DIR}} -type f \( -name '*.json' -o -name '*.ndjson' \) -print0 \
        | xargs -0 -n1 target/debug/marrowflag assess --format text 2>/dev/null \
        | grep -v 'not assessable' \
        | grep -oE '^(U[0-4]|C[0-9][a-z]?\+?|S0[0-9]|  [DM][0-9]{2}|Output: .*)' \
        | sort | uniq -c

# Look at changed snapshots (needs cargo-insta).
snapshots:
    cargo insta review

# The durable door beside a handler that only parses; wants two idle cores.
bench:
    cargo bench --bench durable_door

# What durability costs at 1, 16 and 64 senders, on both engines; wants idle cores.
bench-commit:
    cargo bench --bench commit

# Which numbers of the model can move one step without a row of the case tables noticing.
limits:
    MARROWFLAG_LIMITS= cargo test --test limits -- --nocapture

# The promises of durability at their full figures, one line each. Not for in between.
prove:
    MARROWFLAG_SIM_SEEDS=2000 cargo test --locked --test simulation -- --nocapture --test-threads 1
    MARROWFLAG_ROUNDS=10 cargo test --locked --features fault-injection --test crash_points -- --nocapture --test-threads 1
    MARROWFLAG_CYCLES=200 MARROWFLAG_ROUNDS=100 MARROWFLAG_OVERLOAD=20 cargo test --locked --test under_load -- --nocapture --test-threads 1
    MARROWFLAG_ROUNDS=200 cargo test --locked --test replicas -- --nocapture --test-threads 1
    MARROWFLAG_FULL_SECONDS=60 MARROWFLAG_SYNC_POSITIONS=50 MARROWFLAG_PAGES=100 \
        cargo test --locked --test operator -- --nocapture
    @echo 'Not proved by this:'
    @echo '  what is on disk rather than in the page cache: needs a recorder of writes and syncs'
    @echo '  a creation that the FHIR server works off after its sender gave up: needs If-None-Match'
    @echo '  how much is still taken at ten times the rate that can be: needs a machine of its own'
    @echo '  a replica rolled behind a proxy: no experiment yet'
