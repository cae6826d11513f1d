//! Looks for newer images on request and removes old ones, in a task of its own: a pull may take minutes.

use container_engine::Engine;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{
    engine_work::Answer,
    image_watch::{Cleanup, ImageWatch, NewerImage, WatchedImage},
    scheduler::Input,
};

/// What the task is asked to do.
#[derive(Debug)]
pub(crate) enum ImageWork {
    /// Look for newer images of these.
    Poll(Vec<WatchedImage>),
    /// Remove this image unless something uses it.
    Remove(String),
}

/// Works until the runner has gone.
pub(crate) async fn work(
    engine: Engine,
    pull: bool,
    mut asked: mpsc::UnboundedReceiver<ImageWork>,
    answers: mpsc::UnboundedSender<Answer>,
) {
    let mut watch = ImageWatch::new(engine.clone(), pull);
    while let Some(work) = asked.recv().await {
        match work {
            ImageWork::Poll(watched) => {
                for newer in watch.poll(&watched).await {
                    let at = known_since(&engine, &newer.new_id).await;
                    let NewerImage { test, reference, new_id: id, .. } = newer;
                    send(&answers, Input::NewImage { test: test.0, reference, id, at });
                }
            }
            ImageWork::Remove(id) => {
                let gone = watch.cleanup(&id).await == Cleanup::Removed;
                send(&answers, Input::ImageRemoved { id, gone });
            }
        }
    }
}

fn send(answers: &mpsc::UnboundedSender<Answer>, input: Input) {
    let _ = answers.send(Answer::Input(Box::new(input)));
}

/// When the engine had the image under its name, else when it was built: the same on every runner of the engine.
async fn known_since(engine: &Engine, id: &str) -> Timestamp {
    let Ok(image) = engine.image(id).await else { return Timestamp::UNIX_EPOCH };
    let times = ["/Metadata/LastTagTime", "/Created"];
    let times = times.iter().filter_map(|place| image.document.pointer(place).and_then(Value::as_str));
    let mut times = times.filter_map(|time| time.parse::<Timestamp>().ok());
    times.find(|at| *at > Timestamp::UNIX_EPOCH).unwrap_or(Timestamp::UNIX_EPOCH)
}
