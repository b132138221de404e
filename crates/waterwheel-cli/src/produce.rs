//! `waterwheel produce`: records from stdin, files or nowhere to a topic.

mod flow;
mod frames;
mod input;
mod pace;
mod tally;
mod topics;
mod unit;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use waterwheel::config::overlay;
use waterwheel::registry::Part;
use waterwheel::{Client, Producer};

use self::flow::{Flow, Told};
use self::input::{Cut, Input, Opened, Source, open};
use self::pace::Pace;
use self::tally::{End, Tally};
use self::topics::Topics;
use self::unit::{Bodies, Maker, Shape};
use crate::asking::duration;
use crate::body::{BodyCodec, BodyFormat, FormatArgs, Formats, OnError};
use crate::exit::{Exit, Failure, say};
use crate::global::{Global, Output};
use crate::progress::{Look, Progress};
use crate::records::{Out, unescape};
use crate::runtime;
use crate::stop::{self, Asked};
use crate::words::{grouped, minutes};

/// Unless told otherwise, librdkafka's default.
const MESSAGE_MAX_BYTES: usize = 1_000_000;
/// Bytes of JSON for one of a record, at most (`\u0000`), and for what stands around it.
const JSON_BYTES: usize = 6;
const JSON_FRAME: usize = 1 << 16;
/// What a question to the brokers may take at most.
const LONGEST_QUESTION: Duration = Duration::from_secs(30);
/// What ending the client may take when all is answered.
const CLOSING: Duration = Duration::from_secs(1);

/// Write records to a topic: the lines of stdin, or files
///
/// Ends when all that was read is acknowledged, and with another code than 0 if something was not. Options have the names that
/// they have in kcat.
#[derive(clap::Args)]
pub(crate) struct Produce {
    /// The topic; where -t names it, a file
    #[arg(value_name = "TOPIC")]
    first: Option<OsString>,
    /// Files: each is one record, or with -l its lines are; - is stdin [default: the lines of stdin]
    #[arg(value_name = "FILE")]
    files: Vec<OsString>,
    /// The topic, as kcat takes it
    #[arg(short, long, value_name = "TOPIC")]
    topic: Option<String>,
    /// To this partition [default: by the key, as Kafka's Java client chooses it]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    formats: FormatArgs,
    #[command(flatten)]
    how: How,
}

#[derive(clap::Args)]
#[command(next_help_heading = "What records are made of")]
struct Form {
    /// Records are the lines of the files
    #[arg(short, long)]
    lines: bool,
    /// What stands between records; \n, \t, \xHH [default: \n]
    #[arg(short = 'D', long, value_name = "TEXT", conflicts_with = "from_ndjson")]
    delimiter: Option<String>,
    /// What stands between key and value; a record without it has no key of its own
    #[arg(short = 'K', long, value_name = "TEXT", conflicts_with = "from_ndjson")]
    key_delimiter: Option<String>,
    /// The key of records that have none of their own
    #[arg(short, long, value_name = "TEXT", conflicts_with = "from_ndjson")]
    key: Option<String>,
    /// A header of every record, without = one that is null; repeatable
    #[arg(short = 'H', long, value_name = "NAME[=VALUE]")]
    header: Vec<String>,
    /// Null for a key or value that is this [default: for an empty one]
    #[arg(short = 'Z', long, value_name = "TEXT", num_args = 0..=1, default_missing_value = "", require_equals = true, conflicts_with = "from_ndjson")]
    null: Option<String>,
    /// Lines are what `consume -J` writes; key, value, headers, time and partition become what they were
    #[arg(long)]
    from_ndjson: bool,
    /// Each record to the topic that its line names
    #[arg(long, requires = "from_ndjson", conflicts_with = "topic")]
    keep_topics: bool,
    /// Partitions by the key, whatever the lines say
    #[arg(long, requires = "from_ndjson", conflicts_with = "partition")]
    by_key: bool,
    /// The time of sending, whatever the lines say
    #[arg(long, requires = "from_ndjson")]
    now: bool,
    /// No input: make values of so many bytes, as many as --count says
    #[arg(long, value_name = "BYTES", requires = "count", conflicts_with_all = ["lines", "from_ndjson", "delimiter", "key_delimiter", "null", "tee"], value_parser = clap::value_parser!(u64).range(0..=1 << 30))]
    value_size: Option<u64>,
    /// Make keys 0 to N-1, over and over
    #[arg(long, value_name = "N", requires = "value_size", conflicts_with = "key", value_parser = clap::value_parser!(u64).range(1..))]
    keys: Option<u64>,
}

#[derive(clap::Args)]
#[command(next_help_heading = "How they are sent")]
struct How {
    /// End after that many records
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Records a second at most
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// What is done at a line that is no record, or a record that is refused: stop, or leave it out and end with 1
    #[arg(long, value_enum, default_value_t = OnError::Stop, value_name = "WHAT")]
    on_error: OnError,
    /// Write to stdout what is sent
    #[arg(short = 'T', long)]
    tee: bool,
    /// Compress batches [default: none]
    #[arg(short = 'z', long, value_name = "HOW", value_parser = ["none", "gzip", "snappy", "lz4", "zstd"])]
    compression: Option<String>,
    /// Copies that have to be written before a record is acknowledged; below `all` records may be lost or doubled, with 0
    /// nothing is acknowledged [default: all]
    #[arg(long, value_name = "N", value_parser = ["0", "1", "all"])]
    acks: Option<String>,
    /// A record that is not acknowledged for as long has failed; brokers and topic have to be found in it, too: 100ms to 1h
    /// [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    timeout: Option<Duration>,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("is not a number from 0.001 to 10000000".to_owned()),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    let within = Duration::from_millis(100)..=Duration::from_secs(3_600);
    match duration(text)? {
        time if within.contains(&time) => Ok(time),
        _ => Err("is not from 100ms to 1h".to_owned()),
    }
}

/// What is asked, made out before anything is connected or read.
struct Plan {
    topic: Option<Arc<str>>,
    sources: Vec<Opened>,
    cut: Cut,
    maker: Maker,
}

impl Produce {
    pub(crate) fn run(self, global: &Global) -> Result<Exit, Failure> {
        runtime::block_on(async {
            let (_requests, asked) = stop::requests()?;
            let form = global.output();
            if self.how.tee && form != Output::Table {
                return Err(Failure::new(Exit::Usage, "-T writes to stdout what is sent, -o what became of it")
                    .hint("leave one of them out"));
            }
            let properties = self.properties(global)?;
            let tally = Tally::new(properties.get("acks").is_some_and(|acks| acks == "0"));
            let plan = self.plan(&properties)?;
            let client = Client::builder().properties(properties).build()?;
            let timeout = self.how.timeout.unwrap_or(LONGEST_QUESTION).min(LONGEST_QUESTION);
            let mut topics = Topics::new(client.admin()?.deadline(timeout));
            let producer = client.producer()?;
            let Plan { topic, sources, cut, maker } = plan;
            if let Some(topic) = &topic {
                tokio::select! {
                    found = topics.check_place(topic, self.partition) => found?.map_err(|problem| {
                        Failure::new(problem.exit, problem.text)
                    })?,
                    () = asked.reach(1) => return Ok(Exit::DrainedLate),
                }
            }
            let input = match self.form.value_size {
                Some(size) => Input::made_up(self.how.count.unwrap_or_default(), size as usize, self.form.keys, maker)?,
                None => Input::begin(sources, cut, maker, self.how.tee)?,
            };
            let told = match form {
                _ if self.how.tee => Told::Tee(Out::stdout()?, self.delimiter()),
                Output::Ndjson => Told::Answers(Out::stdout()?),
                _ => Told::Nothing,
            };
            let progress = self.progress(global, &input, &told);
            let (size, began) = (input.size, Instant::now());
            let flow = Flow {
                producer: &producer,
                topics,
                tally: &tally,
                progress: &progress,
                told: &told,
                on_error: self.how.on_error,
                pace: Pace::new(self.how.rate),
                left: self.how.count.unwrap_or(u64::MAX),
            };
            let end = tokio::select! {
                end = flow.run(input, &asked) => end?,
                never = progress.show(|| self.look(&tally, size, began.elapsed())) => match never {},
            };
            progress.clear();
            self.conclude(global, &tally, &end)?;
            tokio::select! {
                written = told.flush() => written?,
                () = asked.reach(2) => {}
            }
            close(&producer, &asked).await;
            Ok(tally.exit(&end))
        })
    }

    /// The client's, with what the options say.
    fn properties(&self, global: &Global) -> Result<BTreeMap<String, String>, Failure> {
        let millis = self.how.timeout.map(|timeout| timeout.as_millis().to_string());
        let options = [
            ("acks", self.how.acks.as_deref()),
            ("compression.codec", self.how.compression.as_deref()),
            ("message.timeout.ms", millis.as_deref()),
        ];
        let options: Vec<_> = options.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let given = global.properties_and(&options)?;
        let mut defaults = BTreeMap::from([("message.timeout.ms".to_owned(), "30000".to_owned())]);
        if given.get("acks").is_some_and(|acks| acks != "all" && acks != "-1") {
            // It goes with all copies only.
            defaults.insert("enable.idempotence".to_owned(), "false".to_owned());
        }
        Ok(overlay(defaults, given))
    }

    fn plan(&self, properties: &BTreeMap<String, String>) -> Result<Plan, Failure> {
        let usage = |problem: &str| Failure::new(Exit::Usage, problem);
        let mut names = self.first.iter().chain(&self.files);
        let topic = match (&self.topic, self.form.keep_topics) {
            (Some(topic), _) => Some(topic.clone()),
            (None, true) => None,
            (None, false) => {
                let name =
                    names.next().ok_or_else(|| usage("to which topic?").hint("name it: waterwheel produce TOPIC"))?;
                Some(name.to_string_lossy().into_owned())
            }
        };
        let files: Vec<&OsString> = names.collect();
        if self.form.value_size.is_some() && !files.is_empty() {
            return Err(usage("--value-size makes the records, and files are named").hint("leave one of them out"));
        }
        let source = |name: &&OsString| match name.as_os_str() == "-" {
            true => Source::Stdin,
            false => Source::File(PathBuf::from(name)),
        };
        let cut_at = self.form.lines || self.form.from_ndjson || files.is_empty();
        let sources = if files.is_empty() { vec![Source::Stdin] } else { files.iter().map(source).collect() };
        let sources = match self.form.value_size {
            Some(_) => Vec::new(),
            None => sources.into_iter().map(open).collect::<Result<_, _>>()?,
        };
        let largest = properties.get("message.max.bytes").and_then(|bytes| bytes.parse().ok());
        let largest = largest.unwrap_or(MESSAGE_MAX_BYTES);
        let most = if self.form.from_ndjson { largest * JSON_BYTES + JSON_FRAME } else { largest };
        let delimiter = self.delimiter();
        let key_delimiter = self.form.key_delimiter.as_deref().map(unescape);
        if delimiter.is_empty() || key_delimiter.as_ref().is_some_and(Vec::is_empty) {
            return Err(usage("-D and -K take a text of at least one byte"));
        }
        let warn_of_cr = self.form.delimiter.is_none() && !self.form.from_ndjson;
        let cut = if cut_at { Cut::At { delimiter, most, warn_of_cr } } else { Cut::Whole { most } };
        let shape = if self.form.from_ndjson {
            Shape::Json { by_key: self.form.by_key, now: self.form.now }
        } else {
            let null = self.form.null.as_deref().map(unescape);
            Shape::Text { key: self.form.key.clone(), key_delimiter, null }
        };
        let header = |text: &String| match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (text.clone(), None),
        };
        let headers: Vec<_> = self.form.header.iter().map(header).collect();
        if headers.iter().any(|(name, _)| name.is_empty()) {
            return Err(usage("-H has no name").hint("write it as -H name=value"));
        }
        let topic: Option<Arc<str>> = topic.map(Into::into);
        let maker = Maker { topic: topic.clone(), partition: self.partition, shape, headers, bodies: self.bodies()? };
        Ok(Plan { topic, sources, cut, maker })
    }

    /// How keys and values are written, unless as they stand.
    fn bodies(&self) -> Result<Option<Bodies>, Failure> {
        let Formats { key, value, registry } = self.formats.formats()?;
        if (key, value) == (BodyFormat::Bytes, BodyFormat::Bytes) {
            return Ok(None);
        }
        if self.form.value_size.is_some() {
            return Err(Failure::new(Exit::Usage, "--value-size makes values of letters, and a format is named")
                .hint("leave one of them out"));
        }
        let codec = |format, part| BodyCodec::new(format, part, registry.as_ref());
        Ok(Some(Bodies::new(codec(key, Part::Key)?, codec(value, Part::Value)?)))
    }

    fn delimiter(&self) -> Vec<u8> {
        self.form.delimiter.as_deref().map_or_else(|| b"\n".to_vec(), unescape)
    }

    fn progress(&self, global: &Global, input: &Input, told: &Told) -> Progress {
        if input.is_typed {
            if !global.is_quiet() && std::io::stderr().is_terminal() {
                say("each line is a record; Ctrl-D ends");
            }
            return Progress::none();
        }
        Progress::new(global, !matches!(told, Told::Nothing))
    }

    /// How far it has come: by records where their number is known, else by the input's bytes.
    fn look(&self, tally: &Tally, size: Option<u64>, took: Duration) -> Look {
        let acknowledged = tally.acknowledged.get();
        let (done, total) = match self.form.value_size {
            Some(_) => (acknowledged, self.how.count),
            None => (tally.position.get(), size),
        };
        let seconds = took.as_secs_f64().max(0.001);
        let left = total.filter(|_| done > 0).map(|total| {
            let left = took.mul_f64(total.saturating_sub(done) as f64 / done as f64);
            format!(", {} left", minutes(left))
        });
        let rate = grouped((acknowledged as f64 / seconds) as u64);
        let records = format!("{} records, {rate}/s{}", grouped(acknowledged), left.unwrap_or_default());
        let line = match total {
            Some(total) => format!("{} %: {records}", done * 100 / total.max(1)),
            None => records.clone(),
        };
        Look { done, total, beside: records, line }
    }

    fn conclude(&self, global: &Global, tally: &Tally, end: &End) -> Result<(), Failure> {
        if !global.is_quiet() || tally.wrong() > 0 || end.unanswered > 0 {
            say(tally.line(end));
        }
        if global.output() == Output::Json {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{}", tally.as_json(end))?;
            out.flush()?;
        }
        Ok(())
    }
}

/// Everything is answered, or is not to be waited for.
async fn close(producer: &Producer, asked: &Asked) {
    let patience = if asked.times() > 1 { Duration::ZERO } else { CLOSING };
    producer.close(patience).await;
}
