//! An order as its hash has it: see `commit.lua`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use expirer_core::event::Event;
use expirer_core::order::State;
use expirer_core::{
    Change, Error, ErrorKind, OrderId, Outcome, Record, Result, Revision, Timestamp,
};
use redis::Value;
use serde_json::{Map, Value as Json};

use crate::keep::Keep;
use crate::redis::BACKEND;
use crate::redis::error::unreadable;

/// The field that says which kind of state it is; the state's properties have fields beside it.
const STATE: &str = "state";

/// An order that was read.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) record: Record,
    /// Since when it has been owing.
    since: Option<Timestamp>,
}

/// An order to be written.
#[derive(Debug)]
pub(super) struct Written {
    /// Names and values of fields.
    pub(super) state: Vec<(String, String)>,
    /// Empty where nothing is owed.
    pub(super) owes: String,
    /// When it expires, if it is open.
    pub(super) due: Option<Timestamp>,
    /// For how many milliseconds it is kept; `None` for ever.
    pub(super) keep_ms: Option<u128>,
}

type Fields = BTreeMap<String, Vec<u8>>;

impl Row {
    /// Reads the answer for one id.
    ///
    /// # Errors
    /// `Corrupt`, with the key, for what is no order of ours.
    pub(super) fn read(
        op: &'static str,
        key: &str,
        id: &OrderId,
        answer: Result<Value>,
    ) -> Result<Option<Self>> {
        let corrupt = |why: &str| {
            let text = format!("{key} is no order of ours: {why}");
            Error::new(ErrorKind::Corrupt, BACKEND, op, text)
        };
        let answer = answer.map_err(|error| match error.kind() {
            ErrorKind::Corrupt => corrupt("it is of another type"),
            _ => error,
        })?;
        let fields: Fields =
            redis::from_redis_value(answer).map_err(|error| corrupt(&error.to_string()))?;
        if fields.is_empty() {
            return Ok(None);
        }
        Self::parse(id, fields).map(Some).map_err(|why| corrupt(&why))
    }

    fn parse(id: &OrderId, mut fields: Fields) -> std::result::Result<Self, String> {
        let revision = number(&mut fields, "revision")?.ok_or("it has no revision")?;
        let since = number(&mut fields, "since")?.map(Timestamp::from_millis);
        let owes = fields.remove("owes").map(|owes| serde_json::from_slice(&owes));
        let owes: Vec<Event> = owes.transpose().map_err(in_field("owes"))?.unwrap_or_default();
        if since.is_some() == owes.is_empty() {
            return Err("owes and since are not both there".to_owned());
        }
        let record =
            Record { id: id.clone(), revision: Revision(revision), state: state(fields)?, owes };
        Ok(Self { record, since })
    }

    /// Whether it is open and past due, or has been owing, since before this.
    pub(super) fn is_overdue(&self, before: Timestamp) -> bool {
        let due = open_until(&self.record.state);
        due.into_iter().chain(self.since).any(|since| since < before)
    }
}

impl Written {
    /// # Errors
    /// `Invalid` for a state that is no JSON, which none is.
    pub(super) fn new(change: &Change, keep: Keep) -> Result<Self> {
        let owes = match change.owes.is_empty() {
            true => String::new(),
            false => serde_json::to_string(&change.owes).map_err(unwritable)?,
        };
        let due = open_until(&change.state);
        let has_ended = due.is_none() && owes.is_empty();
        let keep = Some(keep).filter(|_| has_ended).and_then(|keep| keep.span(&change.state));
        let keep_ms = keep.map(|keep| keep.as_millis());
        Ok(Self { state: state_fields(&change.state)?, owes, due, keep_ms })
    }
}

/// Reads what the commit script answers.
pub(super) fn outcome(answer: Value) -> Result<Outcome> {
    let revision: Option<String> =
        redis::from_redis_value(answer).map_err(|error| unreadable("commit", error))?;
    let Some(revision) = revision else { return Ok(Outcome::Conflict) };
    let revision = revision.parse().map_err(|error| unreadable("commit", error))?;
    Ok(Outcome::Committed(Revision(revision)))
}

/// `{"order":{"version":0,…}}` as fields: state, order; version, 0; ….
fn state_fields(state: &State) -> Result<Vec<(String, String)>> {
    let json = serde_json::to_value(state).map_err(unwritable)?;
    let Json::Object(kinds) = json else { return Err(unwritable("no object")) };
    let mut fields = Vec::new();
    for (kind, properties) in kinds {
        let Json::Object(properties) = properties else { return Err(unwritable("no object")) };
        fields.push((STATE.to_owned(), kind));
        fields.extend(properties.into_iter().map(|(name, value)| (name, value.to_string())));
    }
    Ok(fields)
}

fn state(mut fields: Fields) -> std::result::Result<State, String> {
    let kind = fields.remove(STATE).ok_or("it has no state")?;
    let kind = String::from_utf8(kind).map_err(in_field(STATE))?;
    let mut properties = Map::new();
    for (name, value) in fields {
        let value = serde_json::from_slice(&value).map_err(in_field(&name))?;
        properties.insert(name, value);
    }
    let kinds = Map::from_iter([(kind, Json::Object(properties))]);
    serde_json::from_value(Json::Object(kinds)).map_err(in_field(STATE))
}

fn open_until(state: &State) -> Option<Timestamp> {
    state.order().filter(|order| order.phase.is_open()).map(|order| order.expires_at)
}

fn number<T: FromStr>(fields: &mut Fields, name: &str) -> std::result::Result<Option<T>, String> {
    let Some(text) = fields.remove(name) else { return Ok(None) };
    let number = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| format!("its {name} is no number"))
}

fn in_field<E: Display>(name: &str) -> impl Fn(E) -> String {
    move |error| format!("{name}: {error}")
}

fn unwritable(error: impl Display) -> Error {
    Error::new(ErrorKind::Invalid, BACKEND, "commit", error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expirer_core::order::Ahead;

    use super::*;
    use crate::keep::AHEAD_KEEP;

    fn id() -> OrderId {
        OrderId::new("o1").unwrap()
    }

    fn read(fields: &[(&str, &str)]) -> Result<Option<Row>> {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let fields = fields.iter().flat_map(|(name, value)| [text(name), text(value)]);
        Row::read("load", "the key", &id(), Ok(Value::Array(fields.collect())))
    }

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let state = State::Ahead(Ahead { cancelled: Some(3), ..Ahead::default() });
        let change =
            Change { id: id(), expected: Revision::ABSENT, state: state.clone(), owes: vec![] };
        let written = Written::new(&change, Keep::For(Duration::from_secs(1))).unwrap();
        let fields = [("state", "ahead"), ("cancelled", "3")];
        assert!(written.state.iter().map(|(name, value)| (&name[..], &value[..])).eq(fields));
        assert_eq!(written.keep_ms, Some(AHEAD_KEEP.as_millis()));
        let row = read(&[&[("revision", "7")], &fields[..]].concat()).unwrap().unwrap();
        assert_eq!((row.record.revision, row.record.state), (Revision(7), state));
        assert!(read(&[]).unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let good = [("revision", "7"), ("state", "ahead"), ("cancelled", "3")];
        for (name, value, why) in [
            ("revision", "-1", "revision is no number"),
            ("state", "order", "missing field"),
            ("state", "none", "unknown variant"),
            ("cancelled", "{", "cancelled: EOF"),
            ("cancelled", "[]", "state: invalid type"),
            ("owes", "[{}]", "owes: "),
            ("owes", "[]", ""),
            ("since", "7", "owes and since"),
            ("since", "x", "since is no number"),
        ] {
            let kept = good.into_iter().filter(|(field, _)| *field != name);
            let fields: Vec<_> = kept.chain([(name, value)]).collect();
            match read(&fields) {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt);
                    assert!(error.to_string().contains("the key is no order of ours"), "{error}");
                    assert!(error.to_string().contains(why) && !why.is_empty(), "{error}");
                }
                Ok(row) => assert!(why.is_empty() && row.is_some(), "{fields:?}"),
            }
        }
        assert!(read(&good[1..]).is_err() && read(&good[..1]).is_err());
        let other = Value::SimpleString("x".to_owned());
        assert!(Row::read("load", "the key", &id(), Ok(other)).is_err());
    }
}
