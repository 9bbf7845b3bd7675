//! Where the operators of a session ran, for people.

use bantam_delegate::Session;

use crate::output;

/// Says in a line where the operators run, and in another what the driver failed to do.
pub fn say(session: &Session) {
    output::warn(&session.placement().to_string());
    let report = session.report();
    if !report.events.is_empty() {
        output::warn(&format!("warning: {report}"));
    }
}
