//! The configuration file while the plugin runs.
//!
//! kubelet replaces the files of a ConfigMap by turning a link in their folder to another folder: only watching the folder, and
//! reading the file anew, shows it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fairlead_resource_config::config::{self, Config, ConfigError, Loaded};
use fairlead_resource_config::error_text;
use tokio::sync::{Notify, mpsc};
use tokio::time;

use crate::Stop;
use crate::register::folder;
use crate::shared::Shared;

/// How long after a change the file is read: whoever writes it in place needs a moment.
const SETTLE: Duration = Duration::from_millis(50);

/// How often the file is read without being told of a change: the net below inotify, and for links that lead elsewhere.
const POLL: Duration = Duration::from_secs(5);

/// Where the configuration is.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    /// The file.
    pub path: PathBuf,
    /// Prefix of resources that name none.
    pub default_prefix: String,
}

impl ConfigSource {
    /// Reads the file. With it comes its text.
    fn load(&self) -> Result<(Config, String), ConfigError> {
        let text = fs::read_to_string(&self.path)
            .map_err(|source| ConfigError::Read { path: self.path.clone(), source })?;
        let Loaded { config, warnings } = config::parse(&text, &self.path, &self.default_prefix)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        Ok((config, text))
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }
}

/// The configuration that the plugin has, and where it came from.
pub(crate) struct Follower {
    shared: Arc<Shared>,
    /// What was read last, good or not.
    text: String,
    /// Why the file could not be used, while that lasts.
    failing: Option<String>,
}

/// Reads the configuration for the first time.
pub(crate) fn first(shared: &Arc<Shared>) -> Result<(Config, Follower), ConfigError> {
    let (config, text) = shared.options.config.load()?;
    shared.metrics.config_taken();
    Ok((config, Follower { shared: shared.clone(), text, failing: None }))
}

impl Follower {
    /// Sends each new configuration until told to stop; `demand` makes it look at once, and say what it found.
    pub(crate) async fn run(mut self, demand: Arc<Notify>, sender: mpsc::Sender<Config>, stop: Stop) {
        let mut changes = folder::watch(self.shared.options.config.folder().to_owned(), stop.clone());
        loop {
            let is_demanded = tokio::select! {
                Ok(()) = changes.changed() => {
                    time::sleep(SETTLE).await;
                    changes.mark_unchanged();
                    false
                }
                () = time::sleep(POLL) => false,
                () = demand.notified() => true,
                () = stop.stopped() => return,
            };
            if let Some(config) = self.look(is_demanded)
                && sender.send(config).await.is_err()
            {
                return;
            }
        }
    }

    fn look(&mut self, is_demanded: bool) -> Option<Config> {
        let path = self.shared.options.config.path.clone();
        // One that is as it was needs no second reading, nor a second complaint.
        if !is_demanded && fs::read_to_string(&path).is_ok_and(|text| text == self.text) {
            return None;
        }
        match self.shared.options.config.load() {
            Ok((_, text)) if text == self.text && self.failing.is_none() => {
                tracing::info!(path = %path.display(), "the configuration is as it was");
                None
            }
            Ok((config, text)) => {
                self.text = text;
                self.failing = None;
                self.shared.metrics.config_taken();
                tracing::info!(path = %path.display(), "the configuration has changed");
                Some(config)
            }
            Err(error) => {
                let error = error_text(&error);
                self.shared.metrics.config_failed();
                self.text = fs::read_to_string(&path).unwrap_or_default();
                if is_demanded || self.failing.as_ref() != Some(&error) {
                    tracing::error!(error, "the configuration cannot be used; the one before stays in force");
                }
                self.failing = Some(error);
                None
            }
        }
    }
}
