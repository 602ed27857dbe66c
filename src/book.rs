//! The chapters of the book (`docs/book/src`) that have Rust code: each is an item here, so that
//! its code is a documentation test. `tests/house/book.rs` finds a chapter that is missing.

/// Makes an item of each chapter.
macro_rules! chapters {
    ($($item:ident = $chapter:literal;)*) => {
        $(
            #[doc = include_str!(concat!("../docs/book/src/", $chapter))]
            struct $item;
        )*
    };
}

chapters! {
    FirstTopology = "tutorial/first-topology.md";
    Ask = "tutorial/ask.md";
    FromKafkaAndBack = "tutorial/kafka.md";
    TestIt = "tutorial/test.md";
    ChangeIt = "tutorial/change.md";
    Operators = "guides/operators.md";
    FailingRecords = "guides/failing-records.md";
    AskFromAProgram = "guides/client.md";
    KeysAndValues = "reference/keys-and-values.md";
    CommandLine = "reference/command-line.md";
}
