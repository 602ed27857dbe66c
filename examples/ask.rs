//! Asks a query of a topology that runs: one that takes a text and answers with a number, as
//! `words` of `word_count` does.
//!
//! ```text
//! cargo run --release --example word_count -- run --state target/words
//! cargo run --release --example ask -- http://127.0.0.1:7070 words "the tide"
//! ```

use std::process::ExitCode;
use tidemill_client::{Client, Error};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, query, text] = &arguments[..] else {
        eprintln!(
            "three arguments are wanted: an address such as http://127.0.0.1:7070, a query's \
             name, and its text"
        );
        return ExitCode::from(2);
    };
    match ask(address, query, text).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn ask(address: &str, query: &str, text: &str) -> Result<(), Error> {
    let client = Client::connect(address)?;
    let answer = client.query::<_, u64>(query, text).await?;
    println!("{} as of batch {}", answer.value, answer.txid);
    Ok(())
}
