"""Kernels that sample on a GPU: one block of threads for each row of probabilities.

Each thread owns a stretch of the row. Sums over a row are made of the threads' sums, always in the
same order, so a result does not depend on how the threads run. Probabilities are float32, not
negative, with a sum of about 1.
"""

# TVMScript is parsed as TIR, not run as Python: its annotations and names are TIR's.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN202, C901, N812, PLR0912, PLR0915, SIM102

from tvm import tirx
from tvm.script import tirx as T

THREADS = 256  # of a block: no target allows fewer
_BITS = 31  # of a float32 that is not negative, whose order is that of its bits


def _local(dtype: str):
    return T.sblock_alloc_buffer((1,), dtype, scope="local")


def _shared(count: int = 1):
    return T.sblock_alloc_buffer((count,), "float32", scope="shared")


def sample(vocab: int, *, truncated: bool) -> tirx.PrimFunc:
    """Return the kernel that draws one token for each sample, from the row that `index` says.

    A token is drawn where the running sum of the row passes `uniform` times its sum. With
    `truncated`, rows are sorted, their tokens are in `tokens`, and a row ends where its running sum
    reaches `top_p`.
    """
    stretch = -(-vocab // THREADS)

    @T.macro
    def draw(probs, tokens, uniform, index, top_p, out, samples):
        for block in T.thread_binding(samples, thread="blockIdx.x"):
            for thread in T.thread_binding(THREADS, thread="threadIdx.x"):
                with T.sblock("sample"):
                    T.reads()
                    T.writes()
                    sums = _shared(THREADS)
                    mass = _shared()
                    own, before, total = _local("float32"), _local("float32"), _local("float32")
                    run = _local("float32")
                    found, passed = _local("int32"), _local("bool")
                    own[0] = T.float32(0)
                    for i in T.serial(stretch):
                        if thread * stretch + i < vocab:
                            own[0] = own[0] + probs[index[block], thread * stretch + i]
                    sums[thread] = own[0]
                    T.tvm_storage_sync("shared")
                    before[0] = T.float32(0)
                    total[0] = T.float32(0)
                    for i in T.serial(THREADS):
                        if i == thread:
                            before[0] = total[0]
                        total[0] = total[0] + sums[i]
                    if thread == 0:
                        mass[0] = total[0]
                    T.tvm_storage_sync("shared")
                    if truncated:
                        if before[0] < top_p[index[block]] and top_p[index[block]] <= (
                            before[0] + own[0]
                        ):
                            run[0] = before[0]
                            passed[0] = T.bool(False)
                            for i in T.serial(stretch):
                                if thread * stretch + i < vocab and T.Not(passed[0]):
                                    run[0] = run[0] + probs[index[block], thread * stretch + i]
                                    passed[0] = run[0] >= top_p[index[block]]
                            mass[0] = run[0]
                        T.tvm_storage_sync("shared")
                    total[0] = uniform[block] * mass[0]
                    if before[0] <= total[0] and total[0] < before[0] + own[0]:
                        found[0] = 0
                        passed[0] = T.bool(False)
                        for i in T.serial(stretch):
                            if thread * stretch + i < vocab and T.Not(passed[0]):
                                if probs[index[block], thread * stretch + i] > T.float32(0):
                                    found[0] = thread * stretch + i
                                before[0] = before[0] + probs[index[block], thread * stretch + i]
                                passed[0] = before[0] > total[0]
                        if truncated:
                            out[block] = tokens[index[block], found[0]]
                        else:
                            out[block] = found[0]

    if truncated:

        @T.prim_func(private=True, s_tir=True)
        def sample_with_top_p(
            probs_handle: T.handle,  # [batch, vocab], from the largest
            tokens_handle: T.handle,  # [batch, vocab]
            uniform_handle: T.handle,  # [samples], in [0, 1)
            index_handle: T.handle,  # [samples]
            top_p_handle: T.handle,  # [batch]
            out_handle: T.handle,  # [samples]
        ):
            T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
            batch, samples = T.int64(), T.int64()
            probs = T.match_buffer(probs_handle, (batch, vocab), "float32")
            tokens = T.match_buffer(tokens_handle, (batch, vocab), "int32")
            uniform = T.match_buffer(uniform_handle, (samples,), "float32")
            index = T.match_buffer(index_handle, (samples,), "int32")
            top_p = T.match_buffer(top_p_handle, (batch,), "float32")
            out = T.match_buffer(out_handle, (samples,), "int32")
            draw(probs, tokens, uniform, index, top_p, out, samples)

        return sample_with_top_p

    @T.prim_func(private=True, s_tir=True)
    def multinomial_from_uniform(
        probs_handle: T.handle,  # [batch, vocab]
        uniform_handle: T.handle,  # [samples], in [0, 1)
        index_handle: T.handle,  # [samples]
        out_handle: T.handle,  # [samples]
    ):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        batch, samples = T.int64(), T.int64()
        probs = T.match_buffer(probs_handle, (batch, vocab), "float32")
        uniform = T.match_buffer(uniform_handle, (samples,), "float32")
        index = T.match_buffer(index_handle, (samples,), "int32")
        out = T.match_buffer(out_handle, (samples,), "int32")
        draw(probs, index, uniform, index, uniform, out, samples)

    return multinomial_from_uniform


def renormalize(vocab: int) -> tirx.PrimFunc:
    """Return the kernel that keeps the largest probabilities that sum to `top_p`, scaled to 1.

    What is kept is at least as large as a pivot, the largest with which the sum reaches `top_p`:
    it is found exactly, bit by bit. Without sorting, as MLC's; its guesses of pivots are not used.
    """
    stretch = -(-vocab // THREADS)

    @T.prim_func(private=True, s_tir=True)
    def renormalize_by_top_p(
        probs_handle: T.handle,  # [batch, vocab]
        top_p_handle: T.handle,  # [batch]
        out_handle: T.handle,  # [batch, vocab]
    ):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        batch = T.int64()
        probs = T.match_buffer(probs_handle, (batch, vocab), "float32")
        top_p = T.match_buffer(top_p_handle, (batch,), "float32")
        out = T.match_buffer(out_handle, (batch, vocab), "float32")
        for block in T.thread_binding(batch, thread="blockIdx.x"):
            for thread in T.thread_binding(THREADS, thread="threadIdx.x"):
                with T.sblock("renormalize"):
                    T.reads()
                    T.writes()
                    sums = _shared(THREADS)
                    own, total, mass = _local("float32"), _local("float32"), _local("float32")
                    pivot = _local("int32")
                    pivot[0] = 0
                    mass[0] = T.float32(1)
                    # The last round sums what the pivot keeps: it tries the pivot itself.
                    for bit in T.serial(_BITS + 1):
                        tried: T.let[T.int32] = T.if_then_else(
                            bit < _BITS,
                            T.bitwise_or(pivot[0], T.shift_left(1, T.max(_BITS - 1 - bit, 0))),
                            pivot[0],
                        )
                        own[0] = T.float32(0)
                        for i in T.serial(stretch):
                            if i * THREADS + thread < vocab:
                                if (
                                    T.reinterpret("int32", probs[block, i * THREADS + thread])
                                    >= tried
                                ):
                                    own[0] = own[0] + probs[block, i * THREADS + thread]
                        sums[thread] = own[0]
                        T.tvm_storage_sync("shared")
                        total[0] = T.float32(0)
                        for i in T.serial(THREADS):
                            total[0] = total[0] + sums[i]
                        T.tvm_storage_sync("shared")
                        if bit == _BITS:
                            mass[0] = total[0]
                        if bit < _BITS and total[0] >= top_p[block]:
                            pivot[0] = tried
                    for i in T.serial(stretch):
                        if i * THREADS + thread < vocab:
                            out[block, i * THREADS + thread] = T.if_then_else(
                                T.reinterpret("int32", probs[block, i * THREADS + thread])
                                >= pivot[0],
                                probs[block, i * THREADS + thread] / mass[0],
                                T.float32(0),
                            )

    return renormalize_by_top_p


def verify_drafts(vocab: int) -> tirx.PrimFunc:
    """Return the kernel that accepts or rejects drafted tokens, as speculative decoding does.

    Each sequence is a tree of drafts, linked by first child and next sibling (-1: none). From the
    node in `parent` it walks down: a child is accepted with probability model / draft; at a
    rejection the model's probabilities lose what the draft had and are scaled to 1, and the next
    sibling is tried. `parent` then holds the last node accepted, and its row of `model_probs` what
    the next token is to be drawn from (Leviathan et al., arXiv:2211.17192; trees: SpecInfer,
    arXiv:2305.09781).
    """
    stretch = -(-vocab // THREADS)

    @T.prim_func(private=True, s_tir=True)
    def sampler_verify_draft_tokens(
        draft_probs_handle: T.handle,  # [nodes, vocab], of the node's own token
        draft_tokens_handle: T.handle,  # [nodes]
        model_probs_handle: T.handle,  # [nodes, vocab], of the node's children
        first_child_handle: T.handle,  # [nodes]
        next_sibling_handle: T.handle,  # [nodes]
        uniform_handle: T.handle,  # [nodes], in [0, 1)
        parent_handle: T.handle,  # [batch]
    ):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        nodes, batch = T.int64(), T.int64()
        draft_probs = T.match_buffer(draft_probs_handle, (nodes, vocab), "float32")
        draft_tokens = T.match_buffer(draft_tokens_handle, (nodes,), "int32")
        model_probs = T.match_buffer(model_probs_handle, (nodes, vocab), "float32")
        first_child = T.match_buffer(first_child_handle, (nodes,), "int32")
        next_sibling = T.match_buffer(next_sibling_handle, (nodes,), "int32")
        uniform = T.match_buffer(uniform_handle, (nodes,), "float32")
        parent = T.match_buffer(parent_handle, (batch,), "int32")
        for block in T.thread_binding(batch, thread="blockIdx.x"):
            for thread in T.thread_binding(THREADS, thread="threadIdx.x"):
                with T.sblock("verify"):
                    T.reads()
                    T.writes()
                    sums = _shared(THREADS)
                    probability = _shared()
                    own, total = _local("float32"), _local("float32")
                    at, child, accepted = _local("int32"), _local("int32"), _local("bool")
                    at[0] = parent[block]
                    child[0] = first_child[at[0]]
                    # All threads read the same, so all of them go the same way. What a thread
                    # writes to global memory only it reads again: no barrier is for that memory.
                    while child[0] != -1:
                        if thread == draft_tokens[child[0]] % THREADS:
                            probability[0] = model_probs[at[0], draft_tokens[child[0]]]
                        T.tvm_storage_sync("shared")
                        accepted[0] = (
                            probability[0]
                            >= uniform[child[0]] * draft_probs[child[0], draft_tokens[child[0]]]
                        )
                        if T.Not(accepted[0]):
                            own[0] = T.float32(0)
                            for i in T.serial(stretch):
                                if i * THREADS + thread < vocab:
                                    own[0] = own[0] + T.max(
                                        model_probs[at[0], i * THREADS + thread]
                                        - draft_probs[child[0], i * THREADS + thread],
                                        T.float32(0),
                                    )
                            sums[thread] = own[0]
                        T.tvm_storage_sync("shared")
                        if T.Not(accepted[0]):
                            total[0] = T.float32(0)
                            for i in T.serial(THREADS):
                                total[0] = total[0] + sums[i]
                            accepted[0] = total[0] < T.float32(1e-7)  # nothing would be left
                            if T.Not(accepted[0]):
                                for i in T.serial(stretch):
                                    if i * THREADS + thread < vocab:
                                        model_probs[at[0], i * THREADS + thread] = (
                                            T.max(
                                                model_probs[at[0], i * THREADS + thread]
                                                - draft_probs[child[0], i * THREADS + thread],
                                                T.float32(0),
                                            )
                                            / total[0]
                                        )
                        T.tvm_storage_sync("shared")
                        if accepted[0]:
                            at[0] = child[0]
                            child[0] = first_child[child[0]]
                        else:
                            child[0] = next_sibling[child[0]]
                    T.tvm_storage_sync("shared")
                    if thread == 0:
                        parent[block] = at[0]

    return sampler_verify_draft_tokens
