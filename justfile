# Thin names for ./run, which needs nothing installed; CI runs the same through .ci/run.

# List the recipes.
default:
    @just --list

# Set up what is missing, build, and run the demo.
demo *ARGS:
    ./run demo {{ ARGS }}

# Set up what is missing and run every test, those on a real Kafka included.
test *ARGS:
    ./run test {{ ARGS }}

# Format, clippy, documentation, dependencies.
lint:
    ./run lint

# What CI runs.
ci:
    ./run ci

# Apply each planted fault; its test must fail.
plants *NAMES:
    ./run plants {{ NAMES }}

# The core in a simulated world: --seeds N --steps M --from SEED.
simulate *ARGS:
    ./run simulate {{ ARGS }}

# Faults on a real Kafka, by parts of their tests' names; a line of JSON for each trial.
faults *NAMES:
    ./run faults {{ NAMES }}

# Fuzz what reads foreign bytes: --for SECONDS, names of targets.
fuzz *ARGS:
    ./run fuzz {{ ARGS }}

# Everything at once at random on a real Kafka: --for 10m --seed N.
soak *ARGS:
    ./run soak {{ ARGS }}

# This worker and other programs under the same faults: --only PART, NAME='PROGRAM MODE'.
[positional-arguments]
beside *ARGS:
    ./run beside "$@"

# Mutate the core; what no test notices is told.
mutants *ARGS:
    ./run mutants {{ ARGS }}

# The ladder: the cost of single steps, without Kafka.
bench *ARGS:
    ./run bench {{ ARGS }}

# A real Kafka on this machine.
kafka *ARGS:
    ./run kafka {{ ARGS }}
