"""What travels in place of an adapter: sizes, rounding, error feedback, and what becomes of nonsense."""

from collections import OrderedDict

import pytest
import torch

from fedclip_plugin.federated.messages.codec import CODECS, from_int8, to_half, to_int8
from fedclip_plugin.federated.messages.error_feedback import ErrorFeedback
from fedclip_plugin.federated.messages.fedml_messages import encode
from fedclip_plugin.federated.roles.update_check import update_fault
from fedclip_plugin.recipe import FedClipArgs
from fedclip_plugin.recipe.schema.codec_bytes import CODEC_BYTES
from tests.support.messages import PARAMS, there_and_back, with_tensors

LOSSY = [name for name, codec in CODECS.items() if codec is not None]
SHAPES = {"gate.weight": (6, 5), "gate.bias": (6,), "conv": (4, 3, 2, 2), "logit_scale": ()}
NAN, INF = float("nan"), float("inf")


def parameters(seed=0, size=0.05, dtype=torch.float32, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return OrderedDict(
        (name, size * torch.randn(shape, generator=generator, dtype=dtype)) for name, shape in shapes.items()
    )


def moved(tensors, seed, size=1e-3):
    steps = parameters(seed, size, next(iter(tensors.values())).dtype, {n: t.shape for n, t in tensors.items()})
    return OrderedDict((name, tensor + steps[name]) for name, tensor in tensors.items())


def bits(tensors):
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def test_the_recipe_offers_exactly_these_codecs_and_knows_their_bytes():
    assert FedClipArgs.model_fields["codec"].annotation.__args__ == tuple(CODECS) == tuple(CODEC_BYTES)
    update = OrderedDict(rows=torch.ones(7, 64))
    for name, size in CODEC_BYTES.items():
        numbers = ErrorFeedback(name).compress(update, OrderedDict(rows=torch.zeros(7, 64)))[0]["rows"]
        assert (numbers.nbytes, numbers.element_size()) == (7 * 64 * size, size)


@pytest.mark.parametrize(
    ("row", "numbers", "scale"),
    [
        ([127.0, 0.4, -0.6, -127.0], [127, 0, -1, -127], 1.0),
        ([254.0, 1.0, 3.0, 5.0, -1.0], [127, 0, 2, 2, 0], 2.0),  # halves go to the even number
        ([0.0, 0.0], [0, 0], 0.0),
        ([1e-45, -1e-40], [0, 0], 0.0),  # 1e-40 / 127 has too few bits left to divide by
        ([3e38, -1.5e38], [127, -64], 3e38 / 127),
    ],
)
def test_int8_writes_multiples_of_a_rows_scale(row, numbers, scale):
    for shape in ((1, -1), (-1,)):
        written, scales = to_int8(torch.tensor(row).reshape(shape))
        assert written.flatten().tolist() == numbers
        assert written.dtype == torch.int8
        assert scales.tolist() == pytest.approx([scale])
        assert scales.dtype == torch.float32


@pytest.mark.parametrize("size", [1e-30, 1e-5, 1.0, 1e30])
@pytest.mark.parametrize("shape", [(), (1,), (100,), (7, 64), (3, 4, 2, 2), (5, 1)])
def test_int8_is_off_by_half_a_scale_at_most(shape, size):
    values = size * torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))
    numbers, scales = to_int8(values)
    back = from_int8(numbers, scales)
    assert back.shape == values.shape == numbers.shape
    assert scales.shape == ((shape[0],) if len(shape) > 1 else (1,))
    allowed = (scales * 0.50001).reshape(-1, *[1] * (len(shape) - 1)) if len(shape) > 1 else scales.max() * 0.50001
    assert bool(((back - values).abs() <= allowed).all())


@pytest.mark.parametrize("poison", [NAN, INF, -INF])
def test_what_is_not_finite_stays_so_in_its_row_alone(poison):
    values = torch.ones(3, 4)
    values[1, 2] = poison
    back = from_int8(*to_int8(values))
    assert back[[0, 2]].tolist() == [[1.0] * 4] * 2
    assert not bool(torch.isfinite(back[1]).any())
    assert not bool(torch.isfinite(to_half(values)[0][1, 2]))


def test_without_a_codec_the_very_parameters_travel():
    compressor, new = ErrorFeedback("none"), parameters()
    new["gate.bias"][:3] = torch.tensor([-0.0, NAN, 1e-45])
    payload, seen = compressor.compress(new, parameters(1))
    assert bits(payload) == bits(seen) == bits(compressor.expand(payload, parameters(1))) == bits(new)
    assert compressor.state() == {}
    assert not compressor.remembers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("codec", CODECS)
def test_the_receiver_sees_what_the_sender_foresaw(codec, dtype):
    sender, receiver = ErrorFeedback(codec), ErrorFeedback(codec)
    held = parameters(dtype=dtype)
    for number in range(1, 5):
        new = moved(held, number)
        payload, seen = sender.compress(new, held)
        assert update_fault(1, payload, receiver.template(held)) is None
        received = receiver.expand(payload, held)
        assert bits(received) == bits(seen)
        assert all(received[name].dtype == dtype for name in SHAPES)
        assert all(torch.allclose(received[name], new[name], atol=1e-4) for name in SHAPES)
        held = received


@pytest.mark.parametrize("codec", LOSSY)
def test_the_senders_parameters_are_left_alone(codec):
    new, held = parameters(1), parameters(2)
    before = bits(new), bits(held)
    ErrorFeedback(codec).compress(new, held)
    assert (bits(new), bits(held)) == before


@pytest.mark.parametrize("codec", LOSSY)
def test_what_is_lost_is_made_up_for(codec):
    """The sum of what arrived is the sum of what was sent, but for the last message's loss."""
    sender, held = ErrorFeedback(codec), parameters(dtype=torch.float64)
    sent, arrived = (OrderedDict((name, torch.zeros_like(held[name])) for name in SHAPES) for _ in range(2))
    for number in range(1, 60):
        new = moved(held, number)
        _, seen = sender.compress(new, held)
        for name in SHAPES:
            sent[name] += new[name] - held[name]
            arrived[name] += seen[name] - held[name]
        held = seen
    for name, owed in sender.state().items():
        assert torch.allclose(sent[name], arrived[name] + owed, atol=1e-12)
        assert float(owed.abs().max()) < 3e-5


def test_a_step_too_small_for_int8_arrives_in_the_end():
    sender, held = ErrorFeedback("int8"), OrderedDict(w=torch.zeros(1, 2))
    for _ in range(100):
        new = OrderedDict(w=held["w"] + torch.tensor([[1.0, 0.001]]))
        _, held = sender.compress(new, held)
    assert held["w"][0].tolist() == pytest.approx([100.0, 0.1], abs=0.005)
    assert from_int8(*to_int8(torch.tensor([[1.0, 0.001]])))[0, 1] == 0


@pytest.mark.parametrize("poison", [NAN, INF, 3e38])
@pytest.mark.parametrize("codec", LOSSY)
def test_a_diverged_update_is_recognised_and_poisons_nothing(codec, poison):
    sender, held = ErrorFeedback(codec), parameters()
    sender.compress(moved(held, 1), held)
    owed = bits(sender.state())
    diverged = moved(held, 2)
    diverged["gate.weight"][1, 1] = poison
    held["gate.weight"][1, 1] = -abs(poison)
    payload, _ = sender.compress(diverged, held)
    assert "NaN or infinite" in update_fault(1, sender.expand(payload, held), held)
    assert bits(sender.state()) == owed


@pytest.mark.parametrize("codec", LOSSY)
def test_a_compressor_goes_on_from_its_state(codec):
    first, again = ErrorFeedback(codec), ErrorFeedback(codec)
    held = parameters()
    first.compress(moved(held, 1), held)
    again.load_state({name: torch.tensor(tensor.numpy()) for name, tensor in first.state().items()})
    fresh = ErrorFeedback(codec)
    payloads = [bits(one.compress(moved(held, 2), held)[0]) for one in (first, again, fresh)]
    assert payloads[0] == payloads[1] != payloads[2]


def test_a_payload_of_another_codec_does_not_fit():
    held = parameters()
    for codec in CODECS:
        template = ErrorFeedback(codec).template(held)
        for other in CODECS.keys() - {codec}:
            assert update_fault(1, ErrorFeedback(other).compress(moved(held, 1), held)[0], template) is not None


def test_200_rounds_of_int8_are_1100_times_fewer_bytes_than_full_fine_tuning():
    """Counted on whole messages: the first adapter exact, then int8 both ways; against ViT-B/32's float32 weights."""
    shapes = {"hidden.weight": (512, 512), "hidden.bias": (512,), "gate.weight": (512, 512), "gate.bias": (512,)}
    held, report = parameters(shapes=shapes), 2_000  # more bytes than a silo's report takes
    payload, _ = ErrorFeedback("int8").compress(moved(held, 1), held)
    exact, small = (len(encode(with_tensors(tensors))) + report for tensors in (held, payload))
    assert 1100 * (exact + 200 * 2 * small) <= 200 * 2 * 151_277_313 * 4


@pytest.mark.parametrize("codec", CODECS)
def test_payloads_survive_the_transport(codec):
    held = parameters()
    payload, _ = ErrorFeedback(codec).compress(moved(held, 1), held)
    back = there_and_back(with_tensors(payload)).get(PARAMS)
    assert bits(back) == bits(payload)
    assert [tensor.shape for tensor in back.values()] == [tensor.shape for tensor in payload.values()]
