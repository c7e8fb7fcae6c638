//! HorizontalPodAutoscalers: without a metrics server, and with one.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn bounds_are_kept_and_missing_metrics_are_told() {
    let cluster = Cluster::start_with(&["--leader-elect=false", "--horizontal-pod-autoscaler-sync-period=100ms"], Some("n1")).await;
    cluster.deployment(1).await;
    let hpa = json!({"metadata": {"name": "web"}, "spec": {"minReplicas": 2, "maxReplicas": 4,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]}});
    let api = cluster.api::<HorizontalPodAutoscaler>();
    api.create(&PostParams::default(), &serde_json::from_value(hpa).expect("an autoscaler")).await.expect("the autoscaler");
    cluster.rolled_out(2).await;
    let condition = eventually("the condition", SOON, || async {
        let conditions = api.get("web").await.ok()?.status?.conditions?;
        conditions.into_iter().find(|c| c.type_ == "ScalingActive" && c.status == "False")
    })
    .await;
    assert_eq!(condition.reason.as_deref(), Some("FailedGetResourceMetric"));
    assert_eq!(
        condition.message.as_deref(),
        Some(
            "the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for resource cpu: unable \
             to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_not_there_is_told() {
    let cluster = Cluster::start().await;
    let hpa = json!({"metadata": {"name": "web"}, "spec": {"maxReplicas": 4,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "gone"}}});
    let api = cluster.api::<HorizontalPodAutoscaler>();
    api.create(&PostParams::default(), &serde_json::from_value(hpa).expect("an autoscaler")).await.expect("the autoscaler");
    let condition = eventually("the condition", SOON, || async {
        api.get("web").await.ok()?.status?.conditions?.into_iter().find(|c| c.type_ == "AbleToScale")
    })
    .await;
    assert_eq!((condition.status.as_str(), condition.reason.as_deref()), ("False", Some("FailedGetScale")));
    let message = condition.message.unwrap_or_default();
    assert_eq!(message, "the HPA controller was unable to get the target's current scale: deployments.apps \"gone\" not found");
}
