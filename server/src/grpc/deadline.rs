//! The time that a gRPC client gives a call, in the header `grpc-timeout`.

use axum::http::HeaderMap;
use std::time::{Duration, Instant};
use tidemill_proto::QueryRequest;

/// When a call is over, if its client has said so.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    /// Reads the header of a call that begins now.
    pub(super) fn of(headers: &HeaderMap) -> Deadline {
        let given = headers.get("grpc-timeout").and_then(|given| given.to_str().ok());
        Deadline(given.and_then(parse).and_then(|within| Instant::now().checked_add(within)))
    }

    /// Gives a request no more time than is left of the call.
    pub(super) fn shorten(self, mut request: QueryRequest) -> QueryRequest {
        if let Some(until) = self.0 {
            let left = until.saturating_duration_since(Instant::now()).as_millis();
            // Zero is the server's own bound.
            let left = u64::try_from(left).unwrap_or(u64::MAX).max(1);
            let given = Some(request.timeout_ms).filter(|given| *given > 0);
            request.timeout_ms = given.map_or(left, |given| given.min(left));
        }
        request
    }
}

/// At most eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit())
    {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_is_a_number_and_a_unit() {
        for (text, expected) in [
            ("2H", Some(Duration::from_secs(7200))),
            ("3M", Some(Duration::from_secs(180))),
            ("5S", Some(Duration::from_secs(5))),
            ("100m", Some(Duration::from_millis(100))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("7n", Some(Duration::from_nanos(7))),
            ("", None),
            ("S", None),
            ("5", None),
            ("-5S", None),
            ("123456789S", None),
            ("5\u{e4}", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_smaller_of_both_times_counts() {
        let check = |header: &str, given: u64, expected: std::ops::RangeInclusive<u64>| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", header.parse().expect("a header"));
            let request = QueryRequest { timeout_ms: given, ..QueryRequest::default() };
            let shortened = Deadline::of(&headers).shorten(request).timeout_ms;
            assert!(expected.contains(&shortened), "{header} and {given}: {shortened}");
        };
        check("10S", 0, 5_000..=10_000);
        check("10S", 700, 700..=700);
        check("10S", 60_000, 5_000..=10_000);
        check("1n", 700, 1..=1);
        check("soon", 700, 700..=700);
    }
}
