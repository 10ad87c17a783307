"""P in place: all pairs of a model change gauge where they lie, through one small workspace.

Gram matrices of every pair, the r×r algebra of all pairs of one rank at once, one question to the device whether that
served everywhere, and then (A, B) ← (AT, T⁻¹B). Nothing is written before the question is answered. Pairs so small
that calling torch costs more than computing are stacked by shape; larger ones are read and written block by block.
"""

from collections import defaultdict
from dataclasses import dataclass

import torch
from array_api_compat import array_namespace
from torch import Tensor

from lorakappa.conditioning.projection_by_gram import Gauges, full_precision, gauges, gram, moved
from lorakappa.conditioning.projection_gauges import Gauge
from lorakappa.conditioning.tolerances import gram_noise
from lorakappa.llm.adapters.factors import is_sharded
from lorakappa.llm.adapters.pairs import LoraPair

SMALL = 2**15
"""Pairs with at most so many entries are stacked: copying them is cheaper than a dozen calls more for each."""

BLOCK = 2**18
"""Entries of the workspace on a processor: 1 MiB of float32, which stays in its cache."""

DEVICE_BLOCK = 2**24
"""Entries of the workspace on a GPU, whose calls cost more than its memory."""


@dataclass(frozen=True)
class Plan:
    """What is to be done to the pairs of one shape, dtype and device.

    Attributes:
        batch: groups of pairs that share their memory, as `stack_batches` makes them.
        T: (n, r, r) float64 gauges; I where refused.
        T_inv: (n, r, r) float64 inverses.
        moving: indices of the groups for which (AT, T⁻¹B) is what `balance` promises.
        staying: likewise, but T is I in the precision of the product.
        refused: the others.
        stacks: float32 copies (n, a, r), (n, r, b) of the factors, if they are small.
    """

    batch: list[list[LoraPair]]
    T: Tensor
    T_inv: Tensor
    moving: list[int]
    staying: list[int]
    refused: list[int]
    stacks: tuple[Tensor, Tensor] | None


def serves(pair: LoraPair) -> bool:
    """Whether a pair can be balanced in place: whole, contiguous tensors of one type, single precision at most."""
    left, right = pair.left, pair.right
    return (
        left.dtype == right.dtype != torch.float64
        and left.device == right.device
        and not is_sharded(left)
        and not is_sharded(right)
        and left.is_contiguous()
        and right.is_contiguous()
    )


def plan(batches: list[list[list[LoraPair]]], gauge: Gauge) -> list[Plan]:
    """The gauges of all pairs; waits for the device once, and writes nothing.

    Args:
        batches: as `stack_batches` makes them, of pairs that `serves` accepts.
        gauge: which balanced pair.

    Returns:
        A plan for each batch.
    """
    groups: dict[object, list[tuple[int, list[list[LoraPair]]]]] = defaultdict(list)
    for i, batch in enumerate(batches):
        A = batch[0][0].A
        groups[A.shape[1], A.dtype, A.device].append((i, batch))
    asked = [(members, *_gauges(members, gauge)) for members in groups.values()]
    flags = _on_host([flag for *_, flag in asked])
    plans: dict[int, Plan] = {}
    for (members, stacks, found, _), (safe, moves) in zip(asked, flags, strict=True):
        start = 0
        for (i, batch), stack in zip(members, stacks, strict=True):
            end = start + len(batch)
            state = [*enumerate(zip(safe[start:end], moves[start:end], strict=True))]
            plans[i] = Plan(
                batch,
                found.T[start:end],
                found.T_inv[start:end],
                moving=[j for j, (fine, moves_it) in state if fine and moves_it],
                staying=[j for j, (fine, moves_it) in state if fine and not moves_it],
                refused=[j for j, (fine, _) in state if not fine],
                stacks=stack,
            )
            start = end
    return [plans[i] for i in range(len(batches))]


@torch.no_grad()
def carry_out(plans: list[Plan]) -> None:
    """Writes the pairs that are safe and move; of tied ones the first, which writes all."""
    workspaces: dict[torch.device, Tensor] = {}
    for plan in plans:
        with full_precision(array_namespace(plan.T)):
            if plan.stacks is not None:
                _write_stacked(plan, plan.stacks)
                continue
            device = plan.T.device
            if device not in workspaces:
                workspaces[device] = torch.empty(BLOCK if device.type == "cpu" else DEVICE_BLOCK, device=device)
            for i in plan.moving:
                pair = plan.batch[i][0]
                _move(pair.A, plan.T[i].float(), workspaces[device])
                # BᵀT⁻ᵀ: the rows of a factor are the ones that the gauge does not mix
                _move(pair.B.mT, plan.T_inv[i].mT.float(), workspaces[device])


def _grams(pairs: list[LoraPair]) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor] | None]:
    """(n, r, r) Gram matrices of a batch, and the stacks that they were computed from, if any."""
    A, B = pairs[0].A, pairs[0].B
    xp = array_namespace(A)
    with full_precision(xp):
        if A.numel() + B.numel() <= SMALL:
            stacks = torch.stack([p.A for p in pairs]).float(), torch.stack([p.B for p in pairs]).float()
            return (gram(xp, stacks[0], -2), gram(xp, stacks[1], -1)), stacks
        G_A = torch.stack([gram(xp, p.A.float(), -2) for p in pairs])
        return (G_A, torch.stack([gram(xp, p.B.float(), -1) for p in pairs])), None


def _gauges(
    members: list[tuple[int, list[list[LoraPair]]]], gauge: Gauge
) -> tuple[list[tuple[Tensor, Tensor] | None], Gauges, Tensor]:
    """The stacks of batches of one rank, dtype and device, the gauges of all their pairs, and bools (2, n).

    The latter say which pairs are safe, and where T differs from I; they are not waited for.
    """
    grams, stacks = zip(*(_grams([ties[0] for ties in batch]) for _, batch in members), strict=True)
    G_A, G_B = (torch.cat(parts) for parts in zip(*grams, strict=True))
    firsts = [batch[0][0] for _, batch in members]
    found = gauges(
        array_namespace(G_A),
        G_A,
        G_B,
        gauge,
        storage=torch.finfo(firsts[0].left.dtype),
        entries=max(pair.left.numel() + pair.right.numel() for pair in firsts),
        noise=gram_noise(torch.finfo(torch.float32).eps, G_A.shape[-1]),
    )
    identity = torch.eye(G_A.shape[-1], device=G_A.device)
    moves = ((found.T.float() != identity) | (found.T_inv.float() != identity)).flatten(1).any(1)
    return list(stacks), found, torch.stack([found.safe, moves])


def _write_stacked(plan: Plan, stacks: tuple[Tensor, Tensor]) -> None:
    """Writes the pairs of a plan that were copied into stacks."""
    X, Y = moved(array_namespace(plan.T), stacks[0], plan.T.float()), plan.T_inv.float() @ stacks[1]
    pairs = [plan.batch[i][0] for i in plan.moving]
    old = [factor for pair in pairs for factor in (pair.A, pair.B)]
    if old:
        torch._foreach_copy_(old, [new for i in plan.moving for new in (X[i], Y[i])])


def _move(M: Tensor, T: Tensor, workspace: Tensor) -> None:
    """M ← MT in place, block by block of rows.

    Args:
        M: (n, r) view of a parameter.
        T: (r, r) float32.
        workspace: float32 entries to compute in.
    """
    n, r = M.shape
    rows = max(1, len(workspace) // r)
    for start in range(0, n, rows):
        block = M[start : start + rows]
        result = workspace[: block.numel()].view(block.shape)
        torch.mm(block.float(), T, out=result)
        block.copy_(result)


def _on_host(flags: list[Tensor]) -> list[list[list[bool]]]:
    """Bool tensors (2, n) as lists, with one wait per device."""
    by_device: dict[torch.device, list[int]] = defaultdict(list)
    for i, flag in enumerate(flags):
        by_device[flag.device].append(i)
    found: dict[int, list[list[bool]]] = {}
    for members in by_device.values():
        rows = torch.cat([flags[i] for i in members], dim=1).tolist()
        start = 0
        for i in members:
            found[i] = [row[start : start + flags[i].shape[1]] for row in rows]
            start += flags[i].shape[1]
    return [found[i] for i in range(len(flags))]
