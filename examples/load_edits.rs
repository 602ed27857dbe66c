//! Puts the bundled Wikipedia edits, or other lines, into a topic of Kafka, at a chosen rate. Makes
//! the topic if it is missing.
//!
//! ```text
//! cargo run --release --example load_edits -- --kafka localhost:9092 --topic edits --rate 1000
//! ```

use flate2::read::GzDecoder;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tidemill::clap::Parser;

#[derive(Parser)]
struct Arguments {
    /// The brokers of the cluster: host:port, separated by commas
    #[arg(long, value_name = "BROKERS")]
    kafka: String,
    /// The topic to write to
    #[arg(long)]
    topic: String,
    /// The lines: a text file, plain or gzip
    #[arg(
        long,
        value_name = "FILE",
        default_value = "examples/data/wikipedia-edits-2015-09-12.json.gz"
    )]
    input: PathBuf,
    /// Lines a second [default: as fast as possible]
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// The number of partitions of the topic, if it is created
    #[arg(long, default_value_t = 4)]
    partitions: i32,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &arguments.kafka)
        .set("enable.idempotence", "true")
        .set("linger.ms", "5");
    make_topic(&config, &arguments)?;
    let producer: ThreadedProducer<DefaultProducerContext> = config.create()?;
    let (began, mut sent) = (Instant::now(), 0u32);
    for line in lines(&arguments.input)? {
        let line = line?;
        if let Some(rate) = arguments.rate {
            let due = Duration::from_secs(1) * sent / rate.max(1);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        let mut record = BaseRecord::<(), str>::to(&arguments.topic).payload(&line);
        while let Err((error, back)) = producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            record = back;
            std::thread::sleep(Duration::from_millis(5));
        }
        sent += 1;
    }
    producer.flush(Duration::from_secs(30))?;
    println!(
        "{sent} lines were added to topic {} in {:.1} s",
        arguments.topic,
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

fn lines(path: &PathBuf) -> std::io::Result<impl Iterator<Item = std::io::Result<String>>> {
    let file = File::open(path)?;
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    let bytes: Box<dyn Read> = if packed { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    Ok(BufReader::new(bytes).lines())
}

fn make_topic(
    config: &ClientConfig,
    arguments: &Arguments,
) -> Result<(), Box<dyn std::error::Error>> {
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let topic = NewTopic::new(&arguments.topic, arguments.partitions, TopicReplication::Fixed(-1));
    let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
    match tokio.block_on(admin.create_topics([&topic], &options))?.into_iter().next() {
        Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => {
            Err(KafkaError::AdminOp(code).into())
        }
        _ => Ok(()),
    }
}
