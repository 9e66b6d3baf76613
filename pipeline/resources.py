"""What each task asks of the cluster: CPU, memory, GPUs, shared memory, retries and timeouts."""

from kfp import dsl, kubernetes

DAY_SECONDS = 86_400
NUM_GPUS = 2
USER = 10001


def apply(
    ingest: dsl.PipelineTask, statistics: dsl.PipelineTask, train: dsl.PipelineTask, evaluate: dsl.PipelineTask
) -> None:
    """Set the resources of the four tasks; the local runner has no use for them."""
    for task, cpu, memory in (
        (ingest, "8", "8Gi"),
        (statistics, "8", "8Gi"),
        (train, "16", "64Gi"),
        (evaluate, "8", "16Gi"),
    ):
        task.set_cpu_request(cpu).set_memory_request(memory).set_memory_limit(memory)
        # Every task resumes from what it published, so a retry costs only the work in flight. Without a long
        # backoff_max_duration Argo neither starts nor tolerates a retry more than an hour after the first attempt.
        task.set_retry(3, backoff_duration="60s", backoff_max_duration=f"{30 * DAY_SECONDS}s")
        # The user of the images, said again for namespaces that admit no root.
        kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    train.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(NUM_GPUS)
    # The default /dev/shm of a pod is 64 MB, too small for NCCL between two GPUs.
    kubernetes.empty_dir_mount(train, volume_name="shm", mount_path="/dev/shm", medium="Memory", size_limit="8Gi")
    for task, days in ((ingest, 2), (statistics, 1), (train, 14), (evaluate, 1)):
        kubernetes.set_timeout(task, days * DAY_SECONDS)
