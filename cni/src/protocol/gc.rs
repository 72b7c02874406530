//! What GC is told: which attachments live.

use serde_json::Value;

use super::error::{CniError, code};
use crate::config::Fields;

/// Keys of the list. The specification has the first, the reference library writes both, older ones the second.
const KEYS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

/// An attachment as the protocol names it, within a network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachmentId {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub interface: String,
}

/// The attachments that are valid; nothing when the configuration has no list: then nobody may be taken for dead.
///
/// # Errors
/// Code 7 when the list is something else.
pub fn valid_attachments(config: &Fields) -> Result<Option<Vec<AttachmentId>>, CniError> {
    let Some((key, list)) = KEYS.iter().find_map(|key| config.get(key).map(|list| (key, list))) else {
        return Ok(None);
    };
    let attachment = |item: &Value| {
        let fields = Fields(item.as_object()?.clone());
        let text = |key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
        Some(AttachmentId { container_id: text("containerID")?, interface: text("ifname")? })
    };
    let attachments = list.as_array().and_then(|list| list.iter().map(attachment).collect::<Option<_>>());
    attachments.map(Some).ok_or_else(|| {
        let text =
            format!("key \"{key}\" must be a list of objects with containerID and ifname, it is {list}");
        CniError::new(code::INVALID_CONFIG, text)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn valid(value: Value) -> Result<Option<Vec<AttachmentId>>, CniError> {
        valid_attachments(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn p23_the_list_is_read_under_either_key() {
        let one = AttachmentId { container_id: "c".into(), interface: "net1".into() };
        for key in KEYS {
            let found = valid(json!({key: [{"containerID": "c", "ifname": "net1"}]})).unwrap();
            assert_eq!(found, Some(vec![one.clone()]), "{key}");
        }
        assert_eq!(valid(json!({"cni.dev/attachments": []})).unwrap(), Some(Vec::new()));
    }

    #[test]
    fn no_list_is_no_empty_list_and_a_broken_one_is_refused() {
        assert_eq!(valid(json!({"name": "a"})).unwrap(), None);
        for list in [json!({}), json!([1]), json!([{"containerID": "c"}])] {
            assert_eq!(valid(json!({"cni.dev/attachments": list})).unwrap_err().code, code::INVALID_CONFIG);
        }
    }
}
