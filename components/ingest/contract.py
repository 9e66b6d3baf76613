"""The interface of ingest."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from components.shared.contract import Contract, output_artifact, parameter


@dataclass(frozen=True, kw_only=True)
class Ingest(Contract):
    """Turn the ILSVRC-2010 release (nested tars and devkit) into 256x256 TFRecords, every image accounted for."""

    NAME: ClassVar[str] = "ingest"

    release_uri: str = parameter(help="folder or URI with the ILSVRC2010_*.tar files and the devkit")
    release_fingerprint: str = parameter(
        "", help="expected identity of the release's files, as the submitting command saw them; empty: not checked"
    )
    root_uri: str = parameter(help="folder or URI under which the shards are written")
    subset: str = parameter("all", help="all | classes=N,per_class=M,seed=S | wnids=n01,n02: which images to keep")
    jpeg_quality: int = parameter(95, help="quality of the stored JPEG; 2012 used 85", minimum=1, maximum=100)
    seed: int = parameter(0, help="seed of the global order of the examples", minimum=0)
    max_bad_per_million: int = parameter(
        1000,
        help="quarantined images allowed in train, per million; one is always allowed",
        minimum=0,
        maximum=1_000_000,
    )
    patches: Literal["auto", "required", "waived"] = parameter(
        "auto", help="whether patch_images.tar must be there; auto: for the full release and whenever it is there"
    )
    runner: str = parameter("FnApiRunner", help="Beam runner; the default runs in this process and downloads nothing")
    runner_options: str = parameter("", help="Beam pipeline options, as on a command line; empty: all local cores")
    dataset: str = output_artifact("Dataset", help="manifest of the shards")
    summary: str = output_artifact("Markdown", help="class table, repairs and quarantine list")
