"""Every function of a library, called by its name as MLC's runtime calls it."""

import json

import numpy as np
import pytest

from olmo.modeling.entrypoints import ENTRY_POINTS
from olmo.verification.reference import layer_norm
from tests.olmo.conftest import Library
from tests.olmo.libraries import Built, golden_tokens
from tests.olmo.session import Session, shape, tensor

TOKENS = golden_tokens("pub-b")[:21]
OTHER = TOKENS[13:2:-1]
HIDDEN, VOCAB = 64, 320


@pytest.fixture
def library(built: Library) -> Built:
    return built("pub-b", "q0f32")


@pytest.fixture
def session(library: Built) -> Session:
    made = Session(library)
    for sequence in (0, 1):
        made.kv("add_sequence", sequence)
    return made


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.shape == expected.shape and bool(
        np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    )


def test_the_functions_are_those_of_mlc(session: Session) -> None:
    assert [row.name for row in ENTRY_POINTS] == [
        "embed",
        "get_logits",
        "prefill",
        "decode",
        "batch_prefill",
        "batch_decode",
        "batch_verify",
        "prefill_to_last_hidden_states",
        "decode_to_last_hidden_states",
        "batch_prefill_to_last_hidden_states",
        "batch_decode_to_last_hidden_states",
        "batch_verify_to_last_hidden_states",
        "batch_select_last_hidden_states",
        "softmax_with_temperature",
        "create_tir_paged_kv_cache",
    ]
    for row in ENTRY_POINTS:
        session.vm[row.name]


def test_embed(session: Session, library: Built) -> None:
    assert np.array_equal(
        session.embed(TOKENS), library.weight("model.embed_tokens")[TOKENS].astype(np.float32)
    )


def test_embed_dequantizes(built: Library) -> None:
    for name in ("q4f32_1", "q4f16_1"):
        library = built("pub-b", name)
        expected = library.weight("model.embed_tokens")[TOKENS]
        dtype = library.spec.quantization.model_dtype
        assert np.array_equal(Session(library).embed(TOKENS), expected.astype(dtype))


def test_prefill_and_decode(session: Session, library: Built) -> None:
    (expected,) = library.reference(TOKENS)
    found = session.forward("prefill", {0: 20}, session.embed(TOKENS[:20])[None])
    assert close(found, expected[None, None, 19])
    found = session.forward("decode", {0: 1}, session.embed(TOKENS[20:])[None])
    assert close(found, expected[None, None, 20])


def test_batch_prefill_and_batch_decode(session: Session, library: Built) -> None:
    one, two = library.reference(TOKENS, OTHER)
    embedded = session.embed(TOKENS[:-1] + OTHER[:-1])[None]
    lengths = {0: len(TOKENS) - 1, 1: len(OTHER) - 1}
    positions = np.cumsum(list(lengths.values()), dtype=np.int32) - np.int32(1)
    found = session.forward("batch_prefill", lengths, embedded, positions)
    assert close(found, np.stack([one[-2], two[-2]])[None])
    embedded = session.embed([TOKENS[-1], OTHER[-1]])[:, None]
    found = session.forward("batch_decode", {0: 1, 1: 1}, embedded)
    assert close(found, np.stack([one[-1], two[-1]])[:, None])


def test_batch_verify(session: Session, library: Built) -> None:
    one, two = library.reference(TOKENS, OTHER)
    session.forward("prefill", {0: 15}, session.embed(TOKENS[:15])[None])
    session.forward("prefill", {1: 4}, session.embed(OTHER[:4])[None])
    drafted = session.embed(TOKENS[15:18] + OTHER[4:9])[None]
    found = session.forward("batch_verify", {0: 3, 1: 5}, drafted)
    assert close(found, np.concatenate([one[15:18], two[4:9]])[None])


def test_a_rejected_draft_is_taken_back(session: Session, library: Built) -> None:
    (expected,) = library.reference(TOKENS)
    session.forward("prefill", {0: 15}, session.embed(TOKENS[:15])[None])
    session.forward("batch_verify", {0: 4}, session.embed([1, 2, 3, 4])[None])
    session.kv("popn", 0, 4)
    found = session.forward("decode", {0: 1}, session.embed(TOKENS[15:16])[None])
    assert close(found, expected[None, None, 15])


def test_last_hidden_states(session: Session, library: Built) -> None:
    one, two = library.reference(TOKENS, OTHER)
    states = [
        session.forward("prefill_to_last_hidden_states", {0: 7}, session.embed(TOKENS[:7])[None])[
            0
        ],
        session.forward(
            "batch_prefill_to_last_hidden_states", {1: 5}, session.embed(OTHER[:5])[None]
        )[0],
        session.forward("decode_to_last_hidden_states", {0: 1}, session.embed(TOKENS[7:8])[None])[
            0
        ],
        session.forward(
            "batch_decode_to_last_hidden_states",
            {0: 1, 1: 1},
            session.embed([TOKENS[8], OTHER[5]])[:, None],
        )[:, 0],
        session.forward(
            "batch_verify_to_last_hidden_states",
            {0: 2, 1: 3},
            session.embed(TOKENS[9:11] + OTHER[6:9])[None],
        )[0],
    ]
    found = session.vm["get_logits"](tensor(np.concatenate(states)), session.parameters).numpy()
    order = [one[:7], two[:5], one[7:8], one[8:9], two[5:6], one[9:11], two[6:9]]
    assert close(found, np.concatenate(order))


def test_hidden_states_are_normalised(session: Session) -> None:
    states = session.forward(
        "prefill_to_last_hidden_states", {0: 9}, session.embed(TOKENS[:9])[None]
    )
    assert states.shape == (1, 9, HIDDEN)
    assert np.abs(layer_norm(states.astype(np.float64)) - states).max() < 1e-4


def test_batch_select_last_hidden_states(session: Session) -> None:
    states = np.arange(6 * HIDDEN, dtype=np.float32).reshape(6, HIDDEN)
    chosen = np.array([5, 0, 5], np.int32)
    found = session.vm["batch_select_last_hidden_states"](tensor(states), tensor(chosen))
    assert np.array_equal(found.numpy(), states[chosen])


def test_softmax_with_temperature(session: Session) -> None:
    logits = np.random.default_rng(1).normal(0, 20, (3, 1, VOCAB)).astype(np.float32)
    logits[2, 0, [4, 9]] = 100  # shared by two
    temperature = np.array([1.0, 0.3, 0.0], np.float32)
    found = session.vm["softmax_with_temperature"](tensor(logits), tensor(temperature)).numpy()
    for i, t in enumerate(temperature[:2]):
        scaled = logits[i, 0].astype(np.float64) / t
        weights = np.exp(scaled - scaled.max())
        assert np.abs(found[i, 0] - weights / weights.sum()).max() < 1e-6
    assert found[2, 0].nonzero()[0].tolist() == [4, 9]
    assert found[2, 0, [4, 9]].tolist() == [0.5, 0.5]


def test_alloc_embedding_tensor(session: Session) -> None:
    buffer = session.vm["alloc_embedding_tensor"]()
    assert tuple(buffer.shape) == (512, HIDDEN)
    assert str(buffer.dtype) == "float32"


def test_metadata(session: Session, library: Built) -> None:
    assert list(session.metadata) == [
        "model_type",
        "quantization",
        "context_window_size",
        "sliding_window_size",
        "attention_sink_size",
        "prefill_chunk_size",
        "tensor_parallel_shards",
        "pipeline_parallel_stages",
        "disaggregation",
        "kv_state_kind",
        "max_batch_size",
        "active_vocab_size",
        "model_task",
        "params",
        "kv_cache",
        "memory_usage",
    ]
    assert session.metadata | json.loads(library.metadata) == session.metadata
    assert session.metadata["params"][0] == {
        "name": "model.embed_tokens.weight",
        "shape": [VOCAB, HIDDEN],
        "dtype": "float32",
        "preprocs": [],
        "pipeline_stages": [0],
    }
    usage = session.metadata["memory_usage"]
    assert set(usage) == {row.name for row in ENTRY_POINTS} | {"alloc_embedding_tensor"}
    # decode plans far less than a prefill of a whole chunk, whose MLP input alone is this much
    assert 0 < usage["decode"] < 512 * 176 * 4 < usage["prefill"]


def test_wrong_arguments_are_refused(session: Session) -> None:
    half = tensor(np.zeros((1, 3, HIDDEN), np.float16))
    session.kv("begin_forward", shape([0]), shape([3]))
    with pytest.raises(ValueError, match=r"param=input_embed.*dtype"):
        session.vm["prefill"](half, session.cache, session.parameters)
    wide = tensor(np.zeros((1, 3, HIDDEN + 1), np.float32))
    with pytest.raises(RuntimeError, match=r"param=input_embed.*shape\[2\] mismatch"):
        session.vm["prefill"](wide, session.cache, session.parameters)


class TestLogitFunctions:
    """Functions that the library itself exports, called with tensors they change."""

    logits = np.random.default_rng(2).normal(0, 3, (3, VOCAB)).astype(np.float32)

    def run(self, session: Session, name: str, *arguments: np.ndarray) -> np.ndarray:
        changed = tensor(self.logits)
        function = session.direct.get_function(name, query_imports=True)
        function(changed, *map(tensor, arguments))
        return changed.numpy()

    def test_bias(self, session: Session) -> None:
        rows, tokens = np.array([2, 0, 2], np.int32), np.array([7, 7, 319], np.int32)
        bias = np.array([1.5, -2, 100], np.float32)
        expected = self.logits.copy()
        expected[rows, tokens] += bias
        assert np.array_equal(
            self.run(session, "apply_logit_bias_inplace", rows, tokens, bias), expected
        )

    def test_penalty(self, session: Session) -> None:
        rows = np.array([2, 0], np.int32)  # of the two sequences
        sequence = np.array([0, 0, 1], np.int32)
        tokens, counts = np.array([4, 5, 6], np.int32), np.array([1, 3, 2], np.int32)
        penalties = np.array([[0.5, 0.25, 1.5], [0.1, 0.0, 0.8]], np.float32)
        expected = self.logits.copy()
        for s, t, n in zip(sequence, tokens, counts, strict=True):
            presence, frequency, repetition = penalties[s]
            lowered = expected[rows[s], t] - (presence + n * frequency)
            expected[rows[s], t] = lowered * repetition if lowered < 0 else lowered / repetition
        found = self.run(
            session, "apply_penalty_inplace", rows, sequence, tokens, counts, penalties
        )
        assert np.allclose(found, expected, rtol=1e-6)
        assert (found != self.logits).sum() == 3

    def test_bitmask(self, session: Session) -> None:
        rows = np.array([2, 0], np.int32)
        mask = np.random.default_rng(3).integers(0, 2**32, (3, VOCAB // 32), np.uint32)
        bits = (mask[:, :, None] >> np.arange(32, dtype=np.uint32)) & 1
        allowed = bits.reshape(3, VOCAB).astype(bool)
        allowed[1] = True
        expected = np.where(allowed, self.logits, np.finfo(np.float32).min)
        found = self.run(session, "apply_bitmask_inplace", rows, mask.view(np.int32))
        assert np.array_equal(found, expected)

    def test_gather_and_scatter(self, session: Session) -> None:
        index = np.array([2, 0], np.int32)
        target = np.zeros((2, VOCAB), np.float32)
        gather = session.direct.get_function("gather_hidden_states", query_imports=True)
        gather(tensor(self.logits), tensor(index), gathered := tensor(target))
        assert np.array_equal(gathered.numpy(), self.logits[index])
        scatter = session.direct.get_function("scatter_hidden_states", query_imports=True)
        scatter(gathered, tensor(index), scattered := tensor(np.zeros_like(self.logits)))
        expected = np.zeros_like(self.logits)
        expected[index] = self.logits[index]
        assert np.array_equal(scattered.numpy(), expected)

    def test_wrong_arguments_are_refused(self, session: Session) -> None:
        double = np.zeros(1, np.float64)
        with pytest.raises(TypeError, match="float32"):
            self.run(session, "apply_logit_bias_inplace", *[np.zeros(1, np.int32)] * 2, double)
