"""Finds what a step of a pipeline costs among the ways to train its model that were measured.

What was not measured is put together from what was: ways between two numbers of blocks, other ranks, precisions.
"""

from dataclasses import dataclass, replace

from xautolm_hpc.catalogue import Model
from xautolm_hpc.execution import ModelCosts, StepCost, cost_name
from xautolm_hpc.records import Pipeline

MEASURED_RANK = 8
"""Rank of the adapters that were measured."""

HALF_BYTES = 2
MEASURED_BLOCKS = (1, 3)
"""Numbers of trained blocks that were measured."""

LIVE_SCORES = 2
"""Blocks whose scores are there at a time, where they are computed and not kept."""

WEIGHT_METHODS = ("full", "partial", "head", "bitfit")
"""Methods that train weights of the model's own."""


def computes_again(costs: ModelCosts) -> bool:
    """Check whether the architecture keeps less with gradient checkpointing."""
    return cost_name("full", "half", checkpointing=True) in costs.costs


@dataclass(frozen=True, slots=True, kw_only=True)
class CostSearch:
    """What a cost is looked for.

    Attributes:
        costs: What was measured of the model.
        pipeline: The pipeline.
        model: Its model.
        precision: ``half``, ``single`` or ``mixed``, as for :func:`xautolm_hpc.execution.cost_name`.
        checkpointing: Whether activations are computed again.
        writes_text: Whether it keeps a logit for every word it knows.
    """

    costs: ModelCosts
    pipeline: Pipeline
    model: Model
    precision: str
    checkpointing: bool = False
    writes_text: bool = False

    def find(self) -> StepCost | None:
        """Return the cost of a step.

        Returns:
            The cost; ``None`` if neither this way nor one like it was measured. An architecture that does not compute
            activations again takes what it takes without.
        """
        found = self._of_way()
        if found is None:
            return None
        keeps_scores = self.model.keeps_attention_scores and self.costs.attention != "eager"
        for extra, applies in (("scores", keeps_scores), ("text", self.writes_text)):
            if applies:
                found = self._with_extra(found, extra)
        return self._computed_again(found) if self.checkpointing and computes_again(self.costs) else found

    def _cost(self, way: str, precision: str, *, checkpointing: bool = False, extra: str = "") -> StepCost | None:
        return self.costs.costs.get(cost_name(way, precision, checkpointing=checkpointing, extra=extra))

    def _of_way(self) -> StepCost | None:
        """Find the cost of a method in a precision, or of the same in half precision, scaled as a like one grows."""
        found = self._in_precision(self.precision)
        if found is not None or self.precision == "half":
            return found
        found = self._in_precision("half")
        is_own = self.pipeline.method in WEIGHT_METHODS and self.precision == "single"
        like = "full" if is_own else "lora-attention"
        one, two = self._cost(like, "half"), self._cost(like, self.precision)
        if found is None or one is None or two is None:
            return found if self.precision == "mixed" else None
        return replace(
            found,
            fixed_bytes=two.fixed_bytes,
            token_bytes=found.token_bytes * two.token_bytes / one.token_bytes,
            pair_bytes=found.pair_bytes * two.pair_bytes / max(one.pair_bytes, 1.0),
            n_kernels=found.n_kernels * two.n_kernels / one.n_kernels,
            moved_token_bytes=found.moved_token_bytes * two.moved_token_bytes / one.moved_token_bytes,
        )

    def _in_precision(self, precision: str) -> StepCost | None:
        """Find the cost of a method in a precision."""
        params, method = self.pipeline.params, self.pipeline.method
        if method == "partial":
            return self._of_blocks(precision)
        if method not in ("lora", "dora"):
            return self._cost(method, precision)
        wide = f"{method}-{params.get('lora_targets', 'attention')}"
        found = self._cost(wide, precision)
        if float(params.get("lora_dropout", 0.0)) > 0:
            found = self._cost(f"{wide}-dropout", precision) or found
        return None if found is None else self._of_rank(found)

    def _of_rank(self, found: StepCost) -> StepCost:
        """Scale adapters to their rank: their parameters, and a number of each rank for each layer and token."""
        rank, head = int(self.pipeline.params.get("lora_r", MEASURED_RANK)), self._cost("head", "half")
        n_head = 0 if head is None else head.n_trained
        of_one_rank = (found.n_trained - n_head) / MEASURED_RANK
        n_layers = of_one_rank / (2 * self.model.hidden_size)
        return replace(
            found,
            n_trained=round(n_head + rank * of_one_rank),
            token_bytes=found.token_bytes + HALF_BYTES * n_layers * (rank - MEASURED_RANK),
        )

    def _of_blocks(self, precision: str) -> StepCost | None:
        """Find the cost of training some blocks: between those of one and of three, or beyond, at most that of all."""
        params = self.pipeline.params
        n_blocks = min(
            int(params.get("n_trainable_blocks", params.get("num_trainable_layers", 1))), self.model.n_layers
        )
        few, many = (self._cost(f"partial-{n}", precision) for n in MEASURED_BLOCKS)
        if few is None or many is None:
            return None
        share = (n_blocks - MEASURED_BLOCKS[0]) / (MEASURED_BLOCKS[1] - MEASURED_BLOCKS[0])
        found, all_blocks = few.between(many, share), self._cost("full", "half")
        if all_blocks is None:
            return found
        return replace(
            found,
            n_trained=min(found.n_trained, all_blocks.n_trained),
            token_bytes=min(found.token_bytes, all_blocks.token_bytes),
            pair_bytes=min(found.pair_bytes, all_blocks.pair_bytes),
        )

    def _computed_again(self, found: StepCost) -> StepCost:
        """Scale a cost to what is left when activations are computed again, as of the way measured that is most like.

        ``partial`` and ``bitfit`` are like ``full``: a share of the blocks, and one of them as a whole.
        """
        like = "full" if self.pipeline.method in WEIGHT_METHODS else "lora-all-linear"
        if self.pipeline.method == "lora" and self.pipeline.params.get("lora_targets", "attention") == "attention":
            like = "lora-attention"
        plain, again = self._cost(like, "half"), self._cost(like, "half", checkpointing=True)
        if plain is None or again is None:
            return found
        return replace(
            found,
            fixed_bytes=min(found.fixed_bytes, max(again.fixed_bytes, found.fixed_bytes - plain.fixed_bytes)),
            token_bytes=min(found.token_bytes, max(found.token_bytes * again.token_bytes / plain.token_bytes, 0.0)),
            pair_bytes=found.pair_bytes * min(1.0, again.pair_bytes / max(plain.pair_bytes, 1.0)),
            n_kernels=found.n_kernels * again.n_kernels / plain.n_kernels,
            moved_token_bytes=found.moved_token_bytes * again.moved_token_bytes / plain.moved_token_bytes,
        )

    def _with_extra(self, found: StepCost, extra: str) -> StepCost:
        """Add what attention scores, or logits for every word, take beyond what a plain way takes.

        Scores are kept by the blocks whose activations are kept.
        """
        plain, other = self._cost("full", "half"), self._cost("full", "half", extra=extra)
        if plain is None or other is None:
            return found
        share = 1.0
        if extra == "scores":
            of_all = plain if self.precision != "single" else self._cost("full", "single") or plain
            kept = found.pair_bytes / of_all.pair_bytes if of_all.pair_bytes else 1.0
            share = min(1.0, max(kept, LIVE_SCORES / self.model.n_layers))  # of a block that keeps none they pass by
            if self.precision == "single":  # softmax is computed in single precision anyway
                return replace(found, pair_bytes=max(found.pair_bytes, share * other.pair_bytes))
        return replace(
            found,
            fixed_bytes=found.fixed_bytes + share * max(other.fixed_bytes - plain.fixed_bytes, 0.0),
            token_bytes=max(found.token_bytes + share * (other.token_bytes - plain.token_bytes), 0.0),
            pair_bytes=max(found.pair_bytes + share * (other.pair_bytes - plain.pair_bytes), 0.0),
            n_kernels=found.n_kernels + share * (other.n_kernels - plain.n_kernels),
            moved_token_bytes=found.moved_token_bytes + share * (other.moved_token_bytes - plain.moved_token_bytes),
            moved_pair_bytes=found.moved_pair_bytes + share * (other.moved_pair_bytes - plain.moved_pair_bytes),
        )
