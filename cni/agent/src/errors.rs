//! Error texts: with their causes, and without what a runtime would misread.

use std::error::Error;

use kube::runtime::watcher;

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    harmless(&text)
}

/// What the API server or the way to it says, without the Rust debug text that `kube` adds.
pub(crate) fn api(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => harmless(&status.message),
        kube::Error::Service(source) => chain(source.as_ref()),
        other => chain(other),
    }
}

/// Whether the API server says that there is no such object.
pub(crate) fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Why a watch had to start again.
pub(crate) fn watch(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(source)
        | watcher::Error::WatchStartFailed(source)
        | watcher::Error::WatchFailed(source) => api(source),
        watcher::Error::WatchError(status) => harmless(&status.message),
        other => chain(other),
    }
}

/// Text of others without the words `not found`, which containerd takes as success when a sandbox is removed.
fn harmless(text: &str) -> String {
    text.replace("not found", "missing")
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn an_answer_of_the_api_server_is_given_in_its_own_words_but_two() {
        let status = Status { code: 404, message: "pods \"a\" not found".into(), ..Status::default() };
        assert_eq!(api(&kube::Error::Api(Box::new(status))), "pods \"a\" missing");
    }

    #[test]
    fn causes_follow_in_one_line() {
        let source = std::io::Error::other("refused");
        let error = kube::Error::Service(Box::new(source));
        assert_eq!(api(&error), "refused");
        assert_eq!(chain(&error), "ServiceError: refused");
    }
}
