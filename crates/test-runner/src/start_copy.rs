//! Makes a copy of a test container and starts it, or finds that another runner did.

use std::{collections::BTreeMap, time::Duration};

use backon::{BackoffBuilder, ConstantBuilder};
use container_engine::{Container, CopyRequest, Engine, EngineError, Lifecycle, faithful_copy};
use test_results::labels;
use tracing::{debug, warn};

use crate::{
    originals::Original,
    scheduler::{Input, StartOrder},
    trouble::with_causes,
};

/// How long to wait, time and again, for a name that is reserved: seven seconds in all.
fn pauses() -> impl Iterator<Item = Duration> {
    ConstantBuilder::default().with_delay(Duration::from_millis(100)).with_max_times(70).build()
}

/// Carries out the order. `additions` are labels of the command line. The answer is for the scheduler.
pub(crate) async fn start_copy(
    engine: &Engine,
    original: &Original,
    order: &StartOrder,
    additions: BTreeMap<String, String>,
) -> Input {
    let mut wanted = additions;
    wanted.insert(labels::CREATED_FROM.to_owned(), order.test.clone());
    if let Ok(cause) = serde_json::to_string(&order.cause) {
        wanted.insert(labels::CAUSE.to_owned(), cause);
    }
    let request = CopyRequest {
        name: order.copy.clone(),
        labels: wanted,
        without_labels: Vec::new(),
        image: order.image.clone(),
    };
    let plan = faithful_copy::plan(&original.container, original.image.as_deref(), &request);
    for remark in &plan.remarks {
        debug!(copy = order.copy, "copy of {}: {remark}", order.test);
    }
    let mut pauses = pauses();
    loop {
        let conflict = match engine.create(&plan).await {
            Ok(id) => return start(engine, order, &id.0).await,
            Err(conflict @ EngineError::Conflict { kind: "container", .. }) => conflict,
            Err(error) => return failed(order, &error),
        };
        match engine.inspect(&order.copy).await {
            Ok(existing) => return join(engine, order, &existing).await,
            // The engine reserves a name before it has the container, and frees it again if that cannot be made.
            Err(EngineError::NotFound { .. }) => match pauses.next() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return failed(order, &conflict),
            },
            Err(error) => return failed(order, &error),
        }
    }
}

/// The name is taken: by the copy that another runner made for the same trigger, or that this one made just before
/// the engine went away.
async fn join(engine: &Engine, order: &StartOrder, existing: &Container) -> Input {
    if labels::get(&existing.labels, labels::CREATED_FROM) != Some(order.test.as_str()) {
        let reason = format!("container `{}` exists and is not a copy of `{}`", order.copy, order.test);
        return Input::StartFailed { copy: order.copy.clone(), reason, unreachable: false };
    }
    if order.again && existing.lifecycle == Lifecycle::Created {
        return start(engine, order, &existing.id.0).await;
    }
    Input::Started { copy: order.copy.clone(), id: existing.id.clone(), theirs: true }
}

async fn start(engine: &Engine, order: &StartOrder, id: &str) -> Input {
    match engine.start(id).await {
        Ok(()) => Input::Started {
            copy: order.copy.clone(),
            id: container_engine::ContainerId(id.to_owned()),
            theirs: false,
        },
        Err(error @ EngineError::Unreachable { .. }) => failed(order, &error),
        Err(error) => {
            if let Err(second) = engine.remove(id, true).await {
                warn!(copy = order.copy, "copy {} stays behind unstarted: {second}", order.copy);
            }
            failed(order, &error)
        }
    }
}

fn failed(order: &StartOrder, error: &EngineError) -> Input {
    Input::StartFailed {
        copy: order.copy.clone(),
        reason: with_causes(error),
        unreachable: matches!(error, EngineError::Unreachable { .. }),
    }
}

/// The original's document could not be had.
pub(crate) fn no_document(order: &StartOrder, error: &EngineError) -> Input {
    failed(order, error)
}
