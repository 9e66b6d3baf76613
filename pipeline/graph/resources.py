"""What each task asks of the cluster: CPU, memory, disk, GPUs and their nodes, credentials, retries and timeouts."""

from typing import Any, cast

from kfp import dsl, kubernetes

DAY_SECONDS = 86_400
USER = 10001
# The taint that GKE, and whoever follows it, puts on nodes with GPUs.
TOLERATIONS = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
# An optional Secret and an optional ConfigMap of the run's namespace, for stores that no service account opens.
STORAGE_NAME = "alexnet-storage"
SECRET_KEYS = {"access_key": "AWS_ACCESS_KEY_ID", "secret_key": "AWS_SECRET_ACCESS_KEY"}
CONFIG_KEYS = {"endpoint_url": "AWS_ENDPOINT_URL", "region": "AWS_REGION"}


def apply(
    ingest: dsl.PipelineTask,
    statistics: dsl.PipelineTask,
    train: dsl.PipelineTask,
    evaluate: dsl.PipelineTask,
    outcome: dsl.PipelineTask,
) -> None:
    """Set what the tasks ask for; the local runner has no use for it."""
    for task, cpu, memory, scratch, days in (
        (ingest, "8", "8Gi", "20Gi", 2),
        (statistics, "8", "8Gi", "120Gi", 1),
        (train, "16", "64Gi", "120Gi", 14),
        (evaluate, "8", "16Gi", "120Gi", 1),
        (outcome, "100m", "256Mi", "1Gi", 1),
    ):
        task.set_cpu_request(cpu).set_memory_request(memory).set_memory_limit(memory)
        # Copies of remote files, 100 GB at most, and other temporary ones. The limit is for the node: a pod that takes
        # more is evicted. A volume of its own would be writable for root only, as Kubeflow sets no fsGroup.
        kubernetes.empty_dir_mount(task, volume_name="scratch", mount_path="/tmp", size_limit=scratch)
        kubernetes.set_timeout(task, days * DAY_SECONDS)
        # Every task resumes from what it published, so a retry costs only the work in flight. What is retried, a
        # container that fails or a pod that is deleted, is Argo's policy, for which neither set_retry nor the compiled
        # file has a field (k8s/README.md). Without a long backoff_max_duration Argo neither starts nor tolerates a
        # retry more than an hour after the first attempt.
        task.set_retry(3, backoff_duration="60s", backoff_max_duration=f"{30 * DAY_SECONDS}s")
        # The user of the images, said again for namespaces that admit no root.
        kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
        kubernetes.use_secret_as_env(task, STORAGE_NAME, SECRET_KEYS, optional=True)
        kubernetes.use_config_map_as_env(task, STORAGE_NAME, CONFIG_KEYS, optional=True)
        # For the record that a rerun needs (components/shared/contract/task_record.py): no pod is told its image.
        task.set_env_variable("ALEXNET_IMAGE", cast(dsl.ContainerSpec, task.container_spec).image)
    outcome.set_caching_options(False)  # it is there for its effect


def use_gpus(task: dsl.PipelineTask, num_gpus: Any, tolerations: Any, node_selector: Any = None) -> None:
    """Request GPUs and tolerate the taints of their nodes; with a selector, use nodes with those labels only.

    All arguments are parameters of the run.
    """
    task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(num_gpus)
    # The default /dev/shm of a pod is 64 MB, too small for NCCL between two GPUs.
    kubernetes.empty_dir_mount(task, volume_name="shm", mount_path="/dev/shm", medium="Memory", size_limit="8Gi")
    kubernetes.add_toleration_json(task, tolerations)
    if node_selector is not None:
        kubernetes.add_node_selector_json(task, node_selector)
