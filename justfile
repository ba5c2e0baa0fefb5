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

test:
    cargo test --locked

deny:
    cargo deny check

# The rule book for readers of the repository; a test keeps it current.
rule-book:
    MARROWFLAG_BLESS=1 cargo test --test rule_book

# Look at changed snapshots (needs cargo-insta).
snapshots:
    cargo insta review

# The durable door beside a handler that only parses; wants two idle cores.
bench:
    cargo bench --bench durable_door
