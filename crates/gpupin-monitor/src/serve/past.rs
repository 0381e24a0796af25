//! What is kept, to who asks. A thread that may wait for the disk answers, and only so many do at once.

use std::{path::Path, sync::Arc};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use gpupin_policy::GpuUuid;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::routes::{Api, VERSION, error};
use crate::history::{HistoryError, Metric, Range, Reader, Resolution};

/// How many questions are read at once.
pub(super) const READERS: usize = 4;

/// How many rows of a list are told.
const MOST: usize = 1000;

/// Points of a series, if nobody says how many.
const POINTS: u32 = 600;

const MOST_POINTS: u32 = 5000;

/// A time, in milliseconds since 1970. What is at its end is not part of it.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Between {
    from: u64,
    to: u64,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    gpu: GpuUuid,
    metric: Metric,
    from: u64,
    to: u64,
    points: Option<u32>,
}

/// Why a question has no answer.
enum Refusal {
    Asked(String),
    Unknown(String),
    History(HistoryError),
}

impl From<HistoryError> for Refusal {
    fn from(error: HistoryError) -> Self {
        Self::History(error)
    }
}

pub(super) async fn range(State(api): State<Arc<Api>>) -> Response {
    let state = api.kept.state();
    answer(&api, move |reader| {
        Ok(json!({
            "range": reader.range()?,
            "gpus": reader.gpus()?,
            "recording": state.recording,
            "dropped": state.dropped,
        }))
    })
    .await
}

pub(super) async fn series(
    State(api): State<Arc<Api>>,
    which: Result<Query<Which>, QueryRejection>,
) -> Response {
    let Query(Which { gpu, metric, from, to, points }) = match which {
        Ok(it) => it,
        Err(why) => return refuse(Refusal::Asked(why.body_text())),
    };
    answer(&api, move |reader| {
        let range = ordered(from, to)?;
        let points = points.unwrap_or(POINTS);
        if !(16..=MOST_POINTS).contains(&points) {
            return Err(Refusal::Asked(format!("`points` is not from 16 to {MOST_POINTS}")));
        }
        if !reader.gpus()?.iter().any(|it| it.uuid == gpu.as_str()) {
            return Err(Refusal::Unknown(format!("nothing is kept of `{gpu}`")));
        }
        let series = reader.series(&gpu, metric, range, Resolution::Points(points))?;
        Ok(json!({
            "gpu": gpu, "metric": metric, "from": from, "to": to,
            "points": series.points, "gaps": series.gaps,
        }))
    })
    .await
}

pub(super) async fn processes(
    State(api): State<Arc<Api>>,
    between: Result<Query<Between>, QueryRejection>,
) -> Response {
    list(&api, between, "processes", |reader, range| {
        let most = u32::try_from(MOST + 1).expect("it is small");
        let mut processes = reader.processes(range, most)?;
        // The first of them is what is left off.
        processes.reverse();
        Ok(processes)
    })
    .await
}

pub(super) async fn leases(
    State(api): State<Arc<Api>>,
    between: Result<Query<Between>, QueryRejection>,
) -> Response {
    list(&api, between, "leases", Reader::leases).await
}

pub(super) async fn events(
    State(api): State<Arc<Api>>,
    between: Result<Query<Between>, QueryRejection>,
) -> Response {
    list(&api, between, "events", Reader::events).await
}

/// The newest of what comes oldest first.
async fn list<T: serde::Serialize>(
    api: &Api,
    between: Result<Query<Between>, QueryRejection>,
    name: &'static str,
    read: impl FnOnce(&Reader, Range) -> Result<Vec<T>, HistoryError> + Send + 'static,
) -> Response {
    let Query(Between { from, to }) = match between {
        Ok(it) => it,
        Err(why) => return refuse(Refusal::Asked(why.body_text())),
    };
    answer(api, move |reader| {
        let rows = read(reader, ordered(from, to)?)?;
        let shown = &rows[rows.len().saturating_sub(MOST)..];
        let truncated = shown.len() < rows.len();
        Ok(json!({ "from": from, "to": to, name: shown, "truncated": truncated }))
    })
    .await
}

fn ordered(from: u64, to: u64) -> Result<Range, Refusal> {
    (from < to)
        .then_some(Range { from, to })
        .ok_or_else(|| Refusal::Asked("`from` is not before `to`".to_owned()))
}

/// What the history says, with the kind of its figures.
async fn answer(
    api: &Api,
    read: impl FnOnce(&Reader) -> Result<Value, Refusal> + Send + 'static,
) -> Response {
    let Some(path) = api.history.clone() else {
        let hint = "start `gpupin serve` without `--no-history`";
        return error(StatusCode::NOT_FOUND, "this service keeps no history", hint);
    };
    let permit = Arc::clone(&api.readers).acquire_owned().await;
    let work = move || {
        let answer = ask(&path, read);
        drop(permit);
        answer
    };
    match spawn_blocking(work).await {
        Ok(Ok(it)) => Json(it).into_response(),
        Ok(Err(why)) => refuse(why),
        Err(why) => {
            error(StatusCode::INTERNAL_SERVER_ERROR, &why.to_string(), "this is a bug of gpupin")
        }
    }
}

fn ask(
    path: &Path,
    read: impl FnOnce(&Reader) -> Result<Value, Refusal>,
) -> Result<Value, Refusal> {
    let reader = Reader::open(path)?;
    let mut answer = read(&reader)?;
    answer["version"] = VERSION.into();
    answer["kind"] = reader.kind()?.into();
    Ok(answer)
}

fn refuse(why: Refusal) -> Response {
    match why {
        Refusal::Asked(why) => error(
            StatusCode::BAD_REQUEST,
            &why,
            "`/api/v1/openapi.json` tells what may be asked; times are milliseconds since 1970",
        ),
        Refusal::Unknown(why) => {
            error(StatusCode::NOT_FOUND, &why, "`/api/v1/history/range` lists the GPUs")
        }
        Refusal::History(why) => error(
            StatusCode::SERVICE_UNAVAILABLE,
            &why.to_string(),
            "`/api/v1/history/range` and what `gpupin serve` says on standard error tell more",
        ),
    }
}
