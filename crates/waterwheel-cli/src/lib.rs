//! The command `waterwheel`: one file a verb. Public are its entry and the parts that other programs and tests use, too.

#![forbid(unsafe_code)]

mod asking;
pub mod audit;
mod bench;
mod body;
mod broker;
mod check;
mod consume;
mod demo;
mod doctor;
mod exit;
mod explain;
mod file;
mod folder;
#[doc(hidden)]
pub mod fuzz;
mod global;
mod group;
mod history;
mod init;
pub mod journal;
mod lag;
mod log;
mod produce;
mod program;
mod progress;
mod random;
mod records;
mod run;
mod runtime;
mod stop;
mod topic;
mod verifiable;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::global::Global;

/// Turns a Kafka stream into work that gets done.
#[derive(Parser)]
#[command(name = "waterwheel", version, after_help = EXIT_CODES)]
struct Command {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Audit(audit::Args),
    Bench(bench::Bench),
    Broker(broker::Broker),
    Check(check::Check),
    Consume(consume::Consume),
    Demo(demo::Demo),
    Doctor(doctor::Doctor),
    Explain(explain::Explain),
    Group(group::Group),
    History(history::History),
    Init(init::Init),
    Lag(lag::Lag),
    Produce(produce::Produce),
    Run(run::Run),
    Topic(topic::Topic),
    VerifiableConsumer(verifiable::Consumer),
    VerifiableProducer(verifiable::Producer),
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 condition not met, \
    4 drained late or partly, 5 not found, 6 not authorised, 7 unreachable or timed out, 8 refused";

/// Runs the command with the arguments of this process.
pub fn main() -> ExitCode {
    let started = bench::instant();
    let Command { global, verb } = Command::parse();
    global.start_log();
    let ended = match verb {
        Verb::Audit(args) => return audit::run(&args),
        Verb::Bench(bench) => bench.run(&global, started),
        Verb::Broker(broker) => broker.run(&global),
        Verb::Check(check) => check.run(&global),
        Verb::Consume(consume) => consume.run(&global),
        Verb::Demo(demo) => demo.run(&global),
        Verb::Doctor(doctor) => doctor.run(&global),
        Verb::Explain(explain) => explain.run(&global),
        Verb::Group(group) => group.run(&global),
        Verb::History(history) => history.run(&global),
        Verb::Init(init) => init.run(),
        Verb::Lag(lag) => lag.run(&global),
        Verb::Produce(produce) => produce.run(&global),
        Verb::Run(run) => run.run(&global),
        Verb::Topic(topic) => topic.run(&global),
        Verb::VerifiableConsumer(consumer) => consumer.run(&global),
        Verb::VerifiableProducer(producer) => producer.run(&global),
    };
    ended.unwrap_or_else(|failure| failure.report()).into()
}
