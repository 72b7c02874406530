use fairlead_cni::networks::devices::PodDevices;
use serde_json::json;

use super::*;
use crate::testing::{FakeKubelet, pod, resources};

const RESOURCE: &str = "intel.com/sriov";

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

async fn ask(fake: &FakeKubelet) -> Result<PodDevices, KubeletError> {
    devices(fake.serve().path()).await
}

async fn devices(root: &Path) -> Result<PodDevices, KubeletError> {
    Kubelet::new(root, Metrics::default())
        .unwrap()
        .devices(&pod(), soon())
        .await
        .map(|held| held.devices(&[]))
}

/// Writes the checkpoint: UID, container and device of each entry.
fn write_checkpoint(root: &Path, entries: &[(&str, &str, &str)]) {
    let entry = |(uid, container, id): &(&str, &str, &str)| json!({"PodUID": uid, "ContainerName": container, "ResourceName": RESOURCE, "DeviceIDs": {"-1": [id]}});
    let entries: Vec<_> = entries.iter().map(entry).collect();
    let folder = root.join("device-plugins");
    std::fs::create_dir_all(&folder).unwrap();
    let text = json!({"Data": {"PodDeviceEntries": entries}, "Checksum": 0}).to_string();
    std::fs::write(folder.join("kubelet_internal_checkpoint"), text).unwrap();
}

fn calls(fake: &FakeKubelet) -> Vec<&'static str> {
    fake.calls.lock().unwrap().clone()
}

#[tokio::test]
async fn get_is_asked_and_its_rows_are_put_in_order() {
    let fake = FakeKubelet::default();
    let rows = resources(&[(RESOURCE, &["0000:01:10.2", "0000:01:10.0"]), (RESOURCE, &["0000:01:10.1"])]);
    fake.gets.lock().unwrap().push_back(Ok(rows));
    let devices = ask(&fake).await.unwrap();
    assert_eq!(devices.of(RESOURCE), ["0000:01:10.0", "0000:01:10.1", "0000:01:10.2"]);
    assert_eq!(calls(&fake), ["Get"]);
}

#[tokio::test]
async fn without_get_the_list_is_asked_and_get_not_again() {
    let fake = FakeKubelet::default();
    let mut other = resources(&[(RESOURCE, &["0000:01:10.7"])]);
    other.namespace = "other".into();
    let listed = vec![other, resources(&[(RESOURCE, &["0000:01:10.0"])])];
    fake.lists.lock().unwrap().push_back(Ok(listed));
    let root = fake.serve();
    let kubelet = Kubelet::new(root.path(), Metrics::default()).unwrap();
    for _ in 0..2 {
        let devices = kubelet.devices(&pod(), soon()).await.unwrap().devices(&[]);
        assert_eq!(devices.of(RESOURCE), ["0000:01:10.0"]);
    }
    assert_eq!(calls(&fake), ["Get", "List", "List"]);
}

#[tokio::test]
async fn an_error_of_get_that_says_nothing_leads_to_the_list_once() {
    let fake = FakeKubelet::default();
    fake.gets.lock().unwrap().extend([
        Err(Status::unknown("pod router in namespace default not found")),
        Ok(resources(&[(RESOURCE, &["b"])])),
    ]);
    fake.lists.lock().unwrap().push_back(Ok(vec![resources(&[(RESOURCE, &["a"])])]));
    let root = fake.serve();
    let kubelet = Kubelet::new(root.path(), Metrics::default()).unwrap();
    for id in ["a", "b"] {
        assert_eq!(kubelet.devices(&pod(), soon()).await.unwrap().devices(&[]).of(RESOURCE), [id]);
    }
    assert_eq!(calls(&fake), ["Get", "List", "Get"]);
}

#[tokio::test]
async fn a_busy_kubelet_is_asked_again() {
    let fake = FakeKubelet::default();
    fake.gets.lock().unwrap().push_back(Err(Status::resource_exhausted("rate limit")));
    fake.lists.lock().unwrap().extend([
        Err(Status::resource_exhausted("rate limit")),
        Err(Status::unavailable("restarting")),
        Ok(Vec::new()),
        Ok(vec![resources(&[(RESOURCE, &["a"])])]),
    ]);
    let root = fake.serve();
    let kubelet = Kubelet::new(root.path(), Metrics::default()).unwrap();
    for _ in 0..2 {
        assert_eq!(kubelet.devices(&pod(), soon()).await.unwrap().devices(&[]).of(RESOURCE), ["a"]);
    }
    // `Get` is tried again after kubelet was away, but not by whoever has to ask again.
    assert_eq!(calls(&fake), ["Get", "List", "List", "List", "List", "Get", "List"]);
}

#[tokio::test]
async fn a_kubelet_that_stays_busy_is_a_failure_that_may_pass() {
    let fake = FakeKubelet::default();
    fake.lists.lock().unwrap().push_back(Err(Status::resource_exhausted("rate limit")));
    let root = fake.serve();
    let kubelet = Kubelet::new(root.path(), Metrics::default()).unwrap();
    let error = kubelet.devices(&pod(), Instant::now() + Duration::from_secs(1)).await.unwrap_err();
    assert!(error.may_pass());
    assert!(error.to_string().contains("default/router: List: "), "{error}");
    assert!(error.to_string().contains("rate limit"), "{error}");
}

#[tokio::test]
async fn a_refusal_is_given_at_once() {
    let fake = FakeKubelet::default();
    fake.lists.lock().unwrap().push_back(Err(Status::permission_denied("no")));
    let error = ask(&fake).await.unwrap_err();
    assert!(!error.may_pass());
    assert_eq!(calls(&fake), ["Get", "List"]);
}

#[tokio::test]
async fn an_earlier_pod_of_the_same_name_is_not_taken_for_this_one() {
    let fake = FakeKubelet::default();
    let two = vec![resources(&[(RESOURCE, &["a"])]), resources(&[(RESOURCE, &["b"])])];
    fake.lists.lock().unwrap().extend([Ok(two), Ok(vec![resources(&[(RESOURCE, &["b"])])])]);
    assert_eq!(ask(&fake).await.unwrap().of(RESOURCE), ["b"]);
}

#[tokio::test]
async fn a_missing_socket_is_waited_for_and_named() {
    let root = tempfile::tempdir().unwrap();
    let kubelet = Kubelet::new(root.path(), Metrics::default()).unwrap();
    let error = kubelet.devices(&pod(), Instant::now() + Duration::from_millis(60)).await.unwrap_err();
    assert!(error.may_pass());
    let text = error.to_string();
    assert!(text.contains("pod-resources/kubelet.sock does not exist"), "{text}");
    assert!(text.contains("--kubelet-root"), "{text}");

    let fake = FakeKubelet::default();
    fake.lists.lock().unwrap().push_back(Ok(vec![resources(&[(RESOURCE, &["a"])])]));
    let pod = pod();
    let asking = kubelet.devices(&pod, soon());
    let starting = async {
        tokio::task::yield_now().await;
        fake.serve_at(root.path());
    };
    let (devices, ()) = tokio::join!(asking, starting);
    assert_eq!(devices.unwrap().devices(&[]).of(RESOURCE), ["a"]);
}

#[tokio::test]
async fn an_earlier_pod_with_other_devices_is_seen_by_the_checkpoint_and_waited_for() {
    let fake = FakeKubelet::default();
    let row = |id: &str| resources(&[(RESOURCE, &[id])]);
    fake.lists.lock().unwrap().extend([Ok(vec![row("a")]), Ok(vec![row("a"), row("b")])]);
    let root = fake.serve();
    write_checkpoint(root.path(), &[("earlier", "main", "a"), ("u", "main", "b")]);
    assert_eq!(devices(root.path()).await.unwrap().of(RESOURCE), ["b"]);
    assert_eq!(calls(&fake), ["Get", "List", "List"]);
    let kubelet = Kubelet::new(root.path(), Metrics::default()).unwrap();
    fake.lists.lock().unwrap().clear();
    fake.lists.lock().unwrap().push_back(Ok(vec![row("a")]));
    let error = kubelet.devices(&pod(), Instant::now() + Duration::from_secs(1)).await.unwrap_err();
    assert!(
        error.may_pass() && error.to_string().contains("an earlier pod of the name default/router"),
        "{error}"
    );
}

#[tokio::test]
async fn devices_that_kubelet_does_not_list_are_added_from_the_checkpoint() {
    let fake = FakeKubelet::default();
    fake.lists.lock().unwrap().push_back(Ok(vec![resources(&[(RESOURCE, &["b"])])]));
    let root = fake.serve();
    write_checkpoint(root.path(), &[("u", "main", "b"), ("u", "main", "a")]);
    assert_eq!(devices(root.path()).await.unwrap().of(RESOURCE), ["a", "b"]);
}

#[tokio::test]
async fn without_the_socket_the_checkpoint_tells_by_uid() {
    let root = tempfile::tempdir().unwrap();
    write_checkpoint(root.path(), &[("other", "main", "a"), ("u", "main", "b"), ("u", "main", "c")]);
    let held = Kubelet::new(root.path(), Metrics::default()).unwrap().devices(&pod(), soon()).await.unwrap();
    assert!(!held.needs_order());
    assert_eq!(held.devices(&[]).of(RESOURCE), ["b", "c"]);
    write_checkpoint(root.path(), &[("u", "x", "b"), ("u", "a", "c")]);
    let held = Kubelet::new(root.path(), Metrics::default()).unwrap().devices(&pod(), soon()).await.unwrap();
    assert!(held.needs_order());
    assert_eq!(held.devices(&["x".to_owned(), "a".to_owned()]).of(RESOURCE), ["b", "c"]);
}

#[tokio::test]
async fn what_others_have_is_known_by_name_or_by_uid() {
    let fake = FakeKubelet::default();
    let mut other = resources(&[(RESOURCE, &["a"])]);
    other.name = "holder".into();
    fake.lists.lock().unwrap().push_back(Ok(vec![other, resources(&[(RESOURCE, &["b"])])]));
    let root = fake.serve();
    let others = Kubelet::new(root.path(), Metrics::default()).unwrap().others(&pod(), soon()).await.unwrap();
    assert_eq!(others, BTreeMap::from([("a".to_owned(), "pod default/holder".to_owned())]));
    let root = tempfile::tempdir().unwrap();
    write_checkpoint(root.path(), &[("other", "main", "a"), ("u", "main", "b")]);
    let others = Kubelet::new(root.path(), Metrics::default()).unwrap().others(&pod(), soon()).await.unwrap();
    assert_eq!(others, BTreeMap::from([("a".to_owned(), "the pod with UID other".to_owned())]));
    let nowhere = Kubelet::new(Path::new("/nonexistent"), Metrics::default()).unwrap();
    assert!(nowhere.others(&pod(), soon()).await.unwrap().is_empty());
}

/// So many pods ask at once, and then once more; each gets its own devices.
async fn burst(fake: &FakeKubelet, pods: usize) -> Vec<&'static str> {
    let id = |number: usize| format!("0000:01:{number:02x}.0");
    let node = (0..pods).map(|number| {
        let row = resources(&[(RESOURCE, &[&id(number)])]);
        PodResources { name: format!("p{number}"), ..row }
    });
    *fake.node.lock().unwrap() = Some(node.collect());
    let root = fake.serve();
    let kubelet = Kubelet::new(root.path(), Metrics::default()).unwrap();
    for _ in 0..2 {
        let asking = (0..pods).map(|number| {
            let (kubelet, pod) = (&kubelet, PodRef { name: format!("p{number}"), ..pod() });
            async move { kubelet.devices(&pod, soon()).await.unwrap().devices(&[]).of(RESOURCE).to_vec() }
        });
        let got = futures::future::join_all(asking).await;
        assert_eq!(got, (0..pods).map(|number| [id(number)]).collect::<Vec<_>>());
    }
    calls(fake)
}

#[tokio::test]
async fn many_pods_at_once_share_lists_and_stay_below_kubelets_limit() {
    let fake = FakeKubelet { burst: Some(10.0), ..FakeKubelet::default() };
    let calls = burst(&fake, 60).await;
    let lists = calls.iter().filter(|call| **call == "List").count();
    assert!((2..=12).contains(&lists) && calls.len() - lists <= 2 * SINGLE, "{calls:?}");
}

#[tokio::test]
async fn a_kubelet_whose_limit_others_use_up_answers_all_in_the_end() {
    let fake = FakeKubelet { burst: Some(1.0), ..FakeKubelet::default() };
    let calls = burst(&fake, 60).await;
    assert!(calls.len() < 120, "{calls:?}");
}
