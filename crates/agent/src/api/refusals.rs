//! Why a service is not written, as codes and words of HTTP.

use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use zeugma_catalogue::{Error, Health, Kind};
use zeugma_model::ServiceName;

use super::{Refused, refused};
use crate::services::{Services, WriteError};

/// How many names are named that are like one that there is not.
const NEAR: usize = 3;
/// Of how many letters one may be wrong.
const LETTERS_PER_TYPO: usize = 3;

/// What is said of a write that failed.
pub(super) async fn failed(services: &Services, error: WriteError) -> Refused {
    match error {
        WriteError::Missing(name) => none_called(services, &name).await,
        WriteError::Exists(_)
        | WriteError::VipTaken { .. }
        | WriteError::Full(_)
        | WriteError::Contended(_) => refused(StatusCode::CONFLICT, error),
        WriteError::Catalogue(error) => unstored(&services.catalogue.store.health().borrow(), &error),
    }
}

fn unstored(health: &Health, error: &Error) -> Refused {
    let code = match error {
        Error::Unavailable { .. } | Error::Unacknowledged { .. } | Error::Closed => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Error::Name { .. } | Error::TooLarge { .. } => StatusCode::BAD_REQUEST,
        Error::Refused { .. } => StatusCode::BAD_GATEWAY,
        Error::LeaseEnded { .. }
        | Error::Encode { .. }
        | Error::Decode { .. }
        | Error::Version { .. }
        | Error::Owned { .. }
        | Error::Format { .. }
        | Error::File { .. }
        | Error::Settings { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let since = match health {
        Health::Degraded { since, .. } if code == StatusCode::SERVICE_UNAVAILABLE => {
            let elapsed = SystemTime::now().duration_since(*since).unwrap_or(Duration::ZERO).as_secs();
            format!(" (for {elapsed} s now; services go on as they were known)")
        }
        _ => String::new(),
    };
    refused(code, format!("{error}{since}"))
}

/// There is no such service, but others with names like it.
pub(super) async fn none_called(services: &Services, name: &ServiceName) -> Refused {
    // Without the catalogue nothing is known to be like it.
    let listing = services.catalogue.store.list(Kind::Service, "").await;
    let names = listing.map(|listing| listing.items).unwrap_or_default();
    let near = nearby(name.as_str(), names.iter().map(|item| item.key.name()));
    let hint = match near.is_empty() {
        true => "`zeugma service ls` lists them".to_owned(),
        false => format!("is it {}?", near.join(" or ")),
    };
    refused(StatusCode::NOT_FOUND, format!("there is no service {name}: {hint}"))
}

/// Names that are mistyped so, or begin like it; the nearest first.
fn nearby<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let name = name.to_lowercase();
    let most = name.len().div_ceil(LETTERS_PER_TYPO).min(NEAR);
    let distance = |other: &str| {
        let other = other.to_lowercase();
        let begins = name.len() >= LETTERS_PER_TYPO && (other.starts_with(&name) || name.starts_with(&other));
        let is_long = name.len().abs_diff(other.len()) > most;
        let typos = if is_long { usize::MAX } else { typos(name.as_bytes(), other.as_bytes()) };
        (typos <= most && typos < name.len()).then_some(typos).or(begins.then_some(most + 1))
    };
    let mut near: Vec<(usize, &str)> = names.filter_map(|other| Some((distance(other)?, other))).collect();
    near.sort_unstable();
    near.into_iter().take(NEAR).map(|(_, name)| name).collect()
}

/// Letters to add, remove, replace or exchange with the next one (optimal string alignment).
fn typos(one: &[u8], other: &[u8]) -> usize {
    let mut rows = vec![(0..=other.len()).collect::<Vec<usize>>()];
    for (i, letter) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, with) in other.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(letter != with);
            let mut least = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && one[i - 1] == *with && *letter == other[j - 1] {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_like_it_are_named() {
        let near = |name: &str| nearby(name, ["web", "web-admin", "db", "database", "shop_web"].into_iter());
        assert_eq!(near("wbe"), ["web"]);
        assert_eq!(near("webb"), ["web"]);
        assert_eq!(near("WEB"), ["web", "web-admin"]);
        assert_eq!(near("data"), ["database"]);
        assert_eq!(near("queue"), [""; 0]);
        assert_eq!([typos(b"kitten", b"sittin"), typos(b"wbe", b"web"), typos(b"", b"ab")], [2, 1, 2]);
    }

    #[test]
    fn a_store_that_is_away_is_said_to_be_so_and_since_when() {
        let error = Error::Unavailable {
            subject: "write services/web".into(),
            store: "etcd".into(),
            source: "refused".into(),
        };
        let since = SystemTime::now() - Duration::from_secs(60);
        let (code, body) = unstored(&Health::Degraded { since, why: "refused".into() }, &error);
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
        assert!(
            body.error.contains("etcd does not answer: refused") && body.error.contains("(for 6"),
            "{}",
            body.error
        );
    }
}
