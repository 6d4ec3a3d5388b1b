//! What a store's answers tell of its clock: the `Date` header of each.
//!
//! Leaves out: judging the difference; a store refuses requests that are too far from its own time. Invariant:
//! nothing is decided by it, it is only told to people.

use crate::clock::{Clock, SystemClock};
use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Stands for "not answered yet".
const UNKNOWN: i64 = i64::MIN;

/// Milliseconds that this machine's clock is ahead of the server's, as of the last answer.
#[derive(Clone, Debug)]
pub(crate) struct ServerClock(Arc<AtomicI64>);

impl Default for ServerClock {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(UNKNOWN)))
    }
}

impl ServerClock {
    /// Milliseconds this machine is ahead, to the second the header tells; `None` before the first answer.
    pub(crate) fn ahead_ms(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|ahead_ms| *ahead_ms != UNKNOWN)
    }

    fn note(&self, response: &HttpResponse) {
        let date = response.headers().get("date").and_then(|date| date.to_str().ok());
        let Some(server_s) = date.and_then(parse_http_date) else { return };
        let now_ms = i64::try_from(SystemClock::default().unix_ms()).unwrap_or(i64::MAX);
        // The header drops the fraction of the second: its middle is the best guess.
        let server_ms = server_s.saturating_mul(1_000).saturating_add(500);
        self.0.store(now_ms.saturating_sub(server_ms), Ordering::Relaxed);
    }
}

/// Connects as the default does and listens to the answers.
#[derive(Debug)]
pub(super) struct Listening(pub(super) ServerClock);

impl HttpConnector for Listening {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Service { client, clock: self.0.clone() }))
    }
}

#[derive(Debug)]
struct Service {
    client: HttpClient,
    clock: ServerClock,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.client.execute(request).await?;
        self.clock.note(&response);
        Ok(response)
    }
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7); `None` for other forms.
fn parse_http_date(date: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = date.split_once(", ")?.1.split(' ');
    let day: i64 = words.next()?.parse().ok().filter(|day| (1..=31).contains(day))?;
    let month = words.next()?;
    let month = i64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()?;
    let year: i64 = words.next()?.parse().ok().filter(|year| (1970..10_000).contains(year))?;
    let mut time = words.next()?.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    if words.next() != Some("GMT") || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(unix_seconds((year, month, day), (hour, minute, second)))
}

/// Seconds since 1970 of `2026-11-21T22:15:03.123Z` (RFC 3339 in UTC); `None` for other forms.
pub(crate) fn parse_timestamp(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let time = time.split_once('.').map_or(time, |(whole, _)| whole);
    let mut time = time.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let plausible = (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && [(hour, 23), (minute, 59), (second, 60)].iter().all(|(n, most)| (0..=*most).contains(n));
    plausible.then(|| unix_seconds((year, month - 1, day), (hour, minute, second)))
}

/// Seconds since 1970 of a day (month from 0) and a time of it, both in UTC.
fn unix_seconds(
    (year, month, day): (i64, i64, i64),
    (hour, minute, second): (i64, i64, i64),
) -> i64 {
    // Years begin in March here, so that the leap day is the last one.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let before_year = year * 365 + year / 4 - year / 100 + year / 400;
    let before_month = (153 * month + 2) / 5;
    let days = before_year + before_month + day - 1 - 719_468;
    ((days * 24 + hour) * 60 + minute) * 60 + second
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_answers_are_seconds_since_1970() {
        for (date, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799),
            ("Sat, 21 Nov 2026 21:55:24 GMT", 1_795_298_124),
        ] {
            assert_eq!(parse_http_date(date), Some(expected), "{date}");
        }
    }

    #[test]
    fn timestamps_of_listings_are_seconds_since_1970() {
        assert_eq!(parse_timestamp("2026-11-21T21:55:24.719Z"), Some(1_795_298_124));
        assert_eq!(parse_timestamp("2000-02-29T23:59:59Z"), Some(951_868_799));
        for text in
            ["", "2026-11-21", "2026-13-01T00:00:00Z", "2026-01-01T25:00:00Z", "x-y-zTa:b:cZ"]
        {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_dates() {
        for date in [
            "",
            "now",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 6 Foo 1994 1:1:1 GMT",
            ", 1 Jan 1 GMT",
        ] {
            assert_eq!(parse_http_date(date), None, "{date}");
        }
    }
}
