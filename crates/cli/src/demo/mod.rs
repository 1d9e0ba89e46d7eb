//! placeholder
use crate::arguments::DemoOptions;
use crate::exit::{Ending, Outcome};
pub(crate) fn run(_: DemoOptions) -> Outcome {
    Ok(Ending::Done)
}
