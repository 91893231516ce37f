"""Where units are dropped: scaled columns are masked inputs of layers."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from dynapilco.inference import StackedNetwork, mlp
from dynapilco.inference.dropout import bernoulli_masks, find_sites
from dynapilco.inference.examples import EXAMPLES
from dynapilco.inference.random import global_generator_from
from tests.inference.harness import gen

DROPPED = {
    "MLP": {"2.weight"},
    "Conv1d": {"2.weight", "5.weight"},
    "Conv2d": {"2.weight", "5.weight"},
    "Conv3d": {"2.weight", "5.weight"},
    "LayerNorm": {"3.weight"},
    "GroupNorm": {"4.weight"},
    "MultiheadAttention": {"attention.in_proj_weight", "attention.out_proj.weight", "head.weight"},
    "TransformerEncoder": {
        *(
            f"encoder.layers.{i}.{part}"
            for i in (0, 1)
            for part in ("self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight")
        ),
        "head.weight",
    },
    "tied weights": {"2.weight", "6.weight"},
    "layer used twice": {"middle.weight", "head.weight"},
    "ConvTranspose1d": {"2.weight", "5.weight"},
    "Embedding": {"2.weight", "4.weight"},
    "GRUCell": {"core.weight_hh", "head.weight"},
    "LSTM": {"core.weight_hh_l0", "head.weight"},
}


def made(build, *args):
    with global_generator_from(gen(3)):
        return build(*args)


@pytest.mark.parametrize("name", EXAMPLES)
def test_everything_behind_the_first_layer_is_dropped(name):
    module = made(EXAMPLES[name].build, 2)
    network = StackedNetwork(module)
    assert set(find_sites(network).names) == DROPPED[name]
    first = set(find_sites(network, inputs=True).names) - DROPPED[name]
    assert first == {n for n in network.layout.names if "weight" in n and "norm" not in n.lower()} - DROPPED[name] - {
        "1.weight" if name in ("LayerNorm", "GroupNorm") else "",
    }
    untouched = find_sites(network).unit == sum(find_sites(network).widths)
    for key, place in network.layout.slices().items():
        assert bool(untouched[place].all()) == (key not in DROPPED[name])


def masked_by_hooks(module, named, masks, x):
    """The module with the inputs of its layers multiplied by masks: {parameter name: mask}."""
    handles, owner = [], {id(p): n for n, p in module.named_parameters()}
    for layer in module.modules():
        mask = masks.get(owner.get(id(getattr(layer, "weight", None))))
        if mask is not None:
            mask = mask.view(-1, *(1,) * (layer.weight.dim() - 2))
            handles.append(layer.register_forward_pre_hook(lambda _, args, m=mask: (args[0] * m,)))
    f = functional_call(module, named, (x,))
    for handle in handles:
        handle.remove()
    return f


GROUPED = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Tanh(), nn.Conv2d(4, 6, 2, groups=2), nn.Flatten(), nn.Linear(6, 2))
TRANSPOSED = nn.Sequential(
    nn.Conv1d(2, 4, 1), nn.Tanh(), nn.ConvTranspose1d(4, 6, 2, groups=2), nn.Flatten(), nn.Linear(18, 2)
)
HOOKED = {
    **{
        name: (lambda e=EXAMPLES[name]: made(e.build, 2), EXAMPLES[name].shape)
        for name in ("MLP", "Conv1d", "Conv2d", "Conv3d", "LayerNorm", "GroupNorm", "tied weights", "ConvTranspose1d")
    },
    "layer used twice": (lambda: made(EXAMPLES["layer used twice"].build, 2), (3,)),
    "grouped": (lambda: GROUPED, (2, 2, 2)),
    "grouped, transposed": (lambda: TRANSPOSED, (2, 2)),
}


def check_columns(name, spoil=lambda sites, masks: masks):
    module, shape = HOOKED[name][0]().double(), HOOKED[name][1]
    network = StackedNetwork(module)
    sites = find_sites(network)
    params = network.own_parameters().unsqueeze(0)
    masks = bernoulli_masks([0.4] * len(sites.sites), sites.widths, (3,), params, gen(1))
    x = torch.randn(4, *shape, generator=gen(2), dtype=torch.float64)
    f = network.shared(sites.scale(params, spoil(sites, masks)), x)
    named = {k: v[0] for k, v in network.full.split(params).items()}
    for s in range(3):
        own = {n: masks[i][s] for i, site in enumerate(sites.sites) for n in site.weights}
        torch.testing.assert_close(f[s], masked_by_hooks(module, named, own, x), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", HOOKED)
def test_scaled_weights_are_masked_inputs(name):
    check_columns(name)


def test_a_mask_on_the_wrong_unit_is_noticed():
    with pytest.raises(AssertionError):
        check_columns("grouped", lambda sites, masks: tuple(m.roll(1, -1) for m in masks))


def test_columns_of_attention_and_cells():
    for name, wanted in (("MultiheadAttention", (4, 4, 4)), ("GRUCell", (4, 4)), ("LSTM", (4, 4))):
        network = StackedNetwork(made(EXAMPLES[name].build, 2))
        sites = find_sites(network)
        assert tuple(sites.widths) == wanted
        masks = tuple(torch.rand(1, width, generator=gen(i)) for i, width in enumerate(sites.widths))
        ones = torch.ones(1, network.layout.total)
        named = network.layout.split(sites.scale(ones, masks))
        for mask, site in zip(masks, sites.sites, strict=True):
            for weight in site.weights:
                torch.testing.assert_close(named[weight][0], mask[0].expand_as(named[weight][0]), rtol=0, atol=0)


def test_both_directions_read_the_same_units():
    core = nn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2, batch_first=True)
    sites = {site.weights: site.width for site in find_sites(StackedNetwork(core)).sites}
    assert sites == {
        ("weight_hh_l0",): 2, ("weight_hh_l0_reverse",): 2, ("weight_hr_l0",): 4, ("weight_hr_l0_reverse",): 4,
        ("weight_ih_l1", "weight_ih_l1_reverse"): 4,
        ("weight_hh_l1",): 2, ("weight_hh_l1_reverse",): 2, ("weight_hr_l1",): 4, ("weight_hr_l1_reverse",): 4,
    }  # fmt: skip
    assert find_sites(StackedNetwork(core), inputs=True).sites[0].weights == ("weight_ih_l0", "weight_ih_l0_reverse")


def test_attention_with_keys_of_their_own():
    module = nn.Sequential()
    module.first = nn.Linear(4, 4)
    module.attention = nn.MultiheadAttention(4, 2, kdim=3, vdim=5)
    widths = {site.weights[0]: site.width for site in find_sites(StackedNetwork(module)).sites}
    assert widths == {
        "attention.q_proj_weight": 4, "attention.k_proj_weight": 3, "attention.v_proj_weight": 5,
        "attention.out_proj.weight": 4,
    }  # fmt: skip


class Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.hidden, self.head = nn.Embedding(6, 3), nn.Linear(3, 3), nn.Linear(3, 6, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x):
        return self.head(torch.tanh(self.hidden(self.embedding(x)))).mean(1)


def test_a_weight_that_reads_tokens_first_and_hidden_units_later_has_one_mask():
    network = StackedNetwork(Language())
    assert {s.weights[0]: s.width for s in find_sites(network).sites} == {"hidden.weight": 3, "embedding.weight": 3}
    widths = {s.weights[0]: s.width for s in find_sites(network, inputs=True).sites}
    assert widths == {"embedding.weight": 6, "hidden.weight": 3}  # now it drops words


def test_a_layer_that_stands_first_and_later_is_dropped():
    layer = nn.Linear(3, 3)
    assert find_sites(StackedNetwork(nn.Sequential(layer, nn.Tanh(), layer))).names == ("0.weight",)


def test_embeddings_read_data_wherever_they_stand():
    module = nn.ModuleDict({"words": nn.Embedding(6, 3), "places": nn.Embedding(4, 3), "head": nn.Linear(3, 1)})
    assert find_sites(StackedNetwork(module)).names == ("head.weight",)


def test_excluded_and_frozen_weights_are_never_dropped():
    module = mlp(3, 2, (4, 5))
    assert find_sites(StackedNetwork(module, exclude=["2.weight"])).names == ("4.weight",)
    module[0].weight.requires_grad_(False)
    assert find_sites(StackedNetwork(module)).names == ("2.weight", "4.weight")
    module[4].weight.requires_grad_(False)
    assert find_sites(StackedNetwork(module)).names == ("2.weight",)


def test_values_of_sites_are_spread_over_their_weights():
    network = StackedNetwork(mlp(3, 2, (4, 5)))
    sites = find_sites(network)
    named = network.layout.split(sites.spread(torch.tensor([[0.2, 0.3]]), 1.0))
    wanted = {"2.weight": 0.2, "4.weight": 0.3}
    for name, value in named.items():
        assert bool((value == wanted.get(name, 1.0)).all())
