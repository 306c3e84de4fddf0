"""What limits a run, in words: read from the shares of the learner's time.

docs/scaling.md, "What limits what", is the long form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

MOSTLY: Final = 0.65
"""Share of the learner's time from which on one kind of work is the limit."""

_WAITING: Final = ("wait",)
_RECEIVING: Final = ("decode",)
_TRAINING: Final = ("prepare", "forward_backward", "optimise")
_WRITING: Final = ("publish", "checkpoint", "report")


class Bottleneck(NamedTuple):
    """What limits a run.

    Attributes:
        name: ``actors``, ``learner``, ``messages``, ``writing`` or ``turns``.
        sentence: what is the case, with its share.
        cure: what to do about it; sentence and cure begin small and have no full stop.
    """

    name: str
    sentence: str
    cure: str


def bottleneck(shares: Mapping[str, float], *, one_machine: bool = False) -> Bottleneck | None:
    """Returns what limits a run, or None as long as nothing was measured.

    Args:
        shares: of the learner's time by stage, as in ``stage_shares`` of metrics.jsonl.
        one_machine: learner and actors share its cores, as in ``asyncade train``.
    """
    if not shares:
        return None
    waiting, receiving, training, writing = (
        sum(shares.get(stage, 0.0) for stage in stages)
        for stages in (_WAITING, _RECEIVING, _TRAINING, _WRITING)
    )
    if waiting >= MOSTLY:
        cure = "use a machine with more cores" if one_machine else "add actors"
        return Bottleneck("actors", f"the learner waits for actors {waiting:.0%} of its time", cure)
    if training >= MOSTLY:
        cure = "give the learner more cores or a GPU, or use gradient mode"
        return Bottleneck("learner", f"the learner trains {training:.0%} of its time", cure)
    if receiving >= MOSTLY:
        cure = "add relays, or use data mode"
        share = f"the learner decodes messages {receiving:.0%} of its time"
        return Bottleneck("messages", share, cure)
    if writing >= MOSTLY:
        cure = "use a faster disk or network, or relays"
        share = f"the learner publishes and writes {writing:.0%} of its time"
        return Bottleneck("writing", share, cure)
    return Bottleneck(
        "turns",
        f"learner and actors take turns: it waits {waiting:.0%} and trains {training:.0%} of its"
        " time",
        "nothing to change: this is the normal state on one machine"
        if one_machine
        else "more actors shorten the waiting, a GPU shortens the training",
    )
