"""The Python face of the fused rollout: particles through a frozen model under a policy, in one C++ call.

A segment is ``length`` time steps of ``R`` candidate policies, ``S`` draws and ``P`` particles a draw. The
forward pass keeps the activations, the backward pass returns the gradients of the policy and of the start
state. The kernel is compiled at first use; where that fails ``available`` is False and ``unavailable_reason``
says why.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from dynapilco.core.build import check_choice
from dynapilco.inference.stack import DenseStack
from dynapilco.rollout.damping import Damping, damp
from dynapilco.rollout.fused.build import BuildError, build

_MAX_LAYERS = 16  # kMaxLayers of kernel.cpp
_MAX_SHAPES = 8


class _Problem(ctypes.Structure):
    """``Problem`` of kernel.cpp."""

    _fields_ = [
        ("candidates", ctypes.c_int64),
        ("particles", ctypes.c_int64),
        ("groups", ctypes.c_int64),
        ("length", ctypes.c_int64),
        ("state", ctypes.c_int64),
        ("angle_count", ctypes.c_int64),
        ("action", ctypes.c_int64),
        ("output", ctypes.c_int64),
        ("policy_layers", ctypes.c_int64),
        ("model_layers", ctypes.c_int64),
        ("policy_width", ctypes.c_void_p),
        ("model_width", ctypes.c_void_p),
        ("angles", ctypes.c_void_p),
        ("model", ctypes.c_void_p),
        ("masks", ctypes.c_void_p),
        ("motion", ctypes.c_void_p),
        ("centre", ctypes.c_void_p),
        ("half", ctypes.c_void_p),
        ("damping", ctypes.c_void_p),
        ("damping_stride", ctypes.c_int64),
        ("choice_count", ctypes.c_int64),
        ("choices", ctypes.c_void_p),
        ("carried", ctypes.c_int64),
        ("model_silu", ctypes.c_int64),
        ("bounds", ctypes.c_void_p),
    ]


class _Call(ctypes.Structure):
    """``Call`` of kernel.cpp."""

    _fields_ = [
        ("weights", ctypes.c_void_p),
        ("biases", ctypes.c_void_p),
        ("start", ctypes.c_void_p),
        ("action_noise", ctypes.c_void_p),
        ("obs_noise", ctypes.c_void_p),
        ("process_noise", ctypes.c_void_p),
        ("states", ctypes.c_void_p),
        ("actions", ctypes.c_void_p),
        ("saved", ctypes.c_void_p),
        ("scratch", ctypes.c_void_p),
        ("grad_states", ctypes.c_void_p),
        ("grad_actions", ctypes.c_void_p),
        ("grad_weights", ctypes.c_void_p),
        ("grad_biases", ctypes.c_void_p),
        ("grad_start", ctypes.c_void_p),
    ]


# ----------------------------------------------------------------------------------------------------------
# Availability
# ----------------------------------------------------------------------------------------------------------


def available() -> bool:
    """Whether the compiled kernel is there and passed its check; the first call compiles it."""
    return unavailable_reason() is None


def unavailable_reason() -> str | None:
    """Why the kernel cannot be used, or None when it can.

    Raises
    ------
    UserError
        For a value of the environment variable ``DYNAPILCO_ENGINE`` other than ``torch`` and ``auto``.
    """
    if check_choice() == "torch":
        return "the environment asks for the torch engine (DYNAPILCO_ENGINE=torch)"
    return _load()[1]


@lru_cache(maxsize=1)
def _load() -> tuple[Any, str | None]:
    """Compile, load and check the library: (library, None) or (None, reason)."""
    try:
        library = ctypes.CDLL(str(build()))
        _declare(library)
        error = _self_check(library)
    except (BuildError, OSError, AttributeError) as problem:
        return None, str(problem)
    if not error < 1e-4:
        return None, f"the compiled kernel disagrees with torch by {error:.1e} (a compiler fault?)"
    return library, None


def _library() -> Any:
    library, reason = _load()
    if library is None:
        raise RuntimeError(f"the fused rollout is not available: {reason}")
    return library


def _declare(library: Any) -> None:
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    library.dynapilco_packed_floats.argtypes = [number, pointer]
    library.dynapilco_packed_floats.restype = number
    library.dynapilco_pack.argtypes = [number, pointer, number, pointer, pointer, pointer]
    library.dynapilco_sizes.argtypes = [pointer, pointer]
    library.dynapilco_forward.argtypes = [pointer, pointer]
    library.dynapilco_backward.argtypes = [pointer, pointer]
    for name in ("pack", "sizes", "forward", "backward"):
        getattr(library, f"dynapilco_{name}").restype = None


def supports(model: DenseStack, policy: DenseStack) -> bool:
    """Whether the kernel can run this pair: dense, float32 on the CPU, an unmasked policy of tanh units.

    A model may have tanh or SiLU units; the latter have no adjoint (:attr:`SegmentPlan.differentiable`).
    """
    return _plain(model, ("tanh", "silu")) and _plain(policy) and all(mask is None for mask in policy.masks)


def _plain(stack: DenseStack, activations: tuple[str, ...] = ("tanh",)) -> bool:
    tensors = (*stack.weights, *stack.biases, *(mask for mask in stack.masks if mask is not None))
    return (
        (stack.activation in activations or len(stack.weights) == 1)
        and len(stack.weights) <= _MAX_LAYERS
        and all(x.dtype == torch.float32 and x.device.type == "cpu" for x in tensors)
    )


# ----------------------------------------------------------------------------------------------------------
# The plan
# ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SegmentPlan:
    """Everything that stays constant in a policy search.

    Attributes
    ----------
    model : DenseStack
        The dynamics, G = ``draws`` groups (draw s uses group s) or G = 1 shared, there perhaps with masks
        (S * P, width). Its input is ``[x, sin x[angles], cos x[angles], u]``, its output has O columns. It is
        frozen: copied here once, without gradients.
    angles : tuple of int
        The A components of the state that enter as sine and cosine besides themselves.
    transition : Tensor, shape (D, D)
        The next state is ``x @ transition + y @ effect + u @ carry``.
    effect : Tensor, shape (O, D)
        What the model's output y does to the state.
    centre : Tensor, shape (M,)
        The middle of the actions.
    half : Tensor, shape (M,)
        The half width of the actions: ``u = centre + half * tanh(a)``.
    draws : int
        S, the number of draws.
    damping : Damping, optional
        What happens to the adjoint of the state at each step.
    choices : tuple of int
        Sizes of groups of one-hot actions, M in all: u is 1 at the largest logit of each group, with the gradient of
        their softmax. None: actions are squashed.
    carry : Tensor, shape (M, D), optional
        What the action does to the state beside the model, as where the state remembers it.
    bounds : Tensor, shape (2, D), optional
        The lowest and the highest values that a next state may take: beyond them it is clamped, without a gradient.
    """

    model: DenseStack
    angles: tuple[int, ...]
    transition: Tensor
    effect: Tensor
    centre: Tensor
    half: Tensor
    draws: int
    damping: Damping | None = None
    choices: tuple[int, ...] = ()
    carry: Tensor | None = None
    bounds: Tensor | None = None
    _shapes: dict[tuple[int, ...], _Shape] = field(default_factory=dict, init=False, repr=False)
    _packed: _PackedPlan | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        d, o, m = self.transition.shape[0], self.effect.shape[0], self.centre.shape[0]
        last = len(self.model.weights) - 1
        if self.model.groups not in (1, self.draws):
            raise ValueError(f"the model has {self.model.groups} groups for {self.draws} draws")
        if self.transition.shape != (d, d) or self.effect.shape != (o, d) or self.half.shape != (m,):
            raise ValueError("transition must be (D, D), effect (O, D), centre and half (M,)")
        if self.carry is not None and self.carry.shape != (m, d):
            raise ValueError(f"carry must be (M, D), got {tuple(self.carry.shape)}")
        if self.bounds is not None and self.bounds.shape != (2, d):
            raise ValueError(f"bounds must be (2, D), got {tuple(self.bounds.shape)}")
        if self.model.weights[0].shape[1] != d + 2 * len(self.angles) + m:
            raise ValueError(f"the model takes {self.model.weights[0].shape[1]} inputs, not D + 2 A + M")
        if self.model.weights[last].shape[2] != o:
            raise ValueError(f"the model has {self.model.weights[last].shape[2]} outputs, not O = {o}")
        if self.choices and (sum(self.choices) != m or min(self.choices) < 1):
            raise ValueError(f"choices {self.choices} are no groups of M = {m} actions")
        if any(not 0 <= i < d for i in self.angles):
            raise ValueError(f"angles {self.angles} are not components of a state of {d}")
        _check_stack(self.model, "model")

    @property
    def differentiable(self) -> bool:
        """Whether the kernel has an adjoint of the model: of tanh units."""
        return self.model.activation == "tanh" or len(self.model.weights) == 1

    def packed(self) -> _PackedPlan:
        """Return the model in the kernel's layout, made at the first use."""
        if self._packed is None:
            object.__setattr__(self, "_packed", _PackedPlan(self, _library()))
        assert self._packed is not None
        return self._packed

    def shape(self, widths: tuple[int, ...], candidates: int, particles: int, length: int) -> _Shape:
        """Return the prepared call for these sizes (cached)."""
        key = (candidates, particles, length, *widths)
        found = self._shapes.get(key)
        if found is None:
            if len(self._shapes) >= _MAX_SHAPES:  # the workspaces of old sizes would pile up
                del self._shapes[next(iter(self._shapes))]
            found = self._shapes[key] = _Shape(self, widths, candidates, particles, length)
        return found


def _check_stack(stack: DenseStack, name: str) -> None:
    """Refuse shapes that do not chain: the kernel trusts them."""
    groups, width = stack.weights[0].shape[:2]
    for w, b in zip(stack.weights, stack.biases, strict=True):
        if w.shape[:2] != (groups, width) or b.shape != (groups, w.shape[2]):
            raise ValueError(f"layers of the {name} do not fit: {tuple(w.shape)} and {tuple(b.shape)}")
        width = w.shape[2]


def _ready(x: Tensor) -> Tensor:
    """Return x as the kernel reads it: contiguous float32 on the CPU, no graph."""
    return x.detach().to(device="cpu", dtype=torch.float32).contiguous()


def _empty(*size: int) -> Tensor:
    """Return float32 on the CPU, whatever the defaults are."""
    return torch.empty(size, dtype=torch.float32, device="cpu")


def _pointers(tensors: Sequence[Tensor | None]) -> Any:
    """Return a C array of data pointers (null for None)."""
    return (ctypes.c_void_p * len(tensors))(*[None if x is None else x.data_ptr() for x in tensors])


def _widths(stack: DenseStack) -> tuple[int, ...]:
    return (stack.weights[0].shape[1], *(w.shape[2] for w in stack.weights))


def _int64s(numbers: Sequence[int]) -> Any:
    return (ctypes.c_int64 * max(1, len(numbers)))(*numbers)


class _PackedPlan:
    """The constants of a plan in the kernel's layout."""

    def __init__(self, plan: SegmentPlan, library: Any) -> None:
        model = plan.model
        self.model_width = _int64s(_widths(model))
        self.model = _pack(library, model.weights, model.biases, self.model_width)
        parts = [plan.transition, plan.effect] + ([] if plan.carry is None else [plan.carry])
        motion = torch.cat([_ready(part) for part in parts]).unsqueeze(0)
        no_bias = motion.new_zeros(1, motion.shape[2])
        self.motion = _pack(library, [motion], [no_bias], _int64s(motion.shape[1:]))
        self.centre, self.half = _ready(plan.centre), _ready(plan.half)
        self.angles, self.choices = _int64s(plan.angles), _int64s(plan.choices)
        self.damping = _flat_damping(plan.damping)
        self.bounds = None if plan.bounds is None else _ready(plan.bounds)
        masks = [None if mask is None else _ready(mask) for mask in model.masks]
        self.masks = masks + [None] * (len(model.weights) - len(masks))
        self.mask_pointers = _pointers(self.masks)
        self.library = library


def _flat_damping(damping: Damping | None) -> Tensor | None:
    """Rows of decay, limit and scale as the kernel reads them: one row, or one for each candidate."""
    if damping is None:
        return None
    decay = torch.as_tensor(damping.decay, dtype=torch.float32, device="cpu").reshape(-1, 1)
    rest = torch.cat([torch.tensor([damping.limit], dtype=torch.float32, device="cpu"), _ready(damping.scale)])
    return torch.cat([_ready(decay), rest.expand(len(decay), -1)], dim=1).contiguous()


def _pack(library: Any, weights: Sequence[Tensor], biases: Sequence[Tensor], width: Any) -> Tensor:
    """Return all the groups of a stack packed, shape (G, floats of a group)."""
    layers, groups = len(weights), weights[0].shape[0]
    weights, biases = [_ready(w) for w in weights], [_ready(b) for b in biases]
    packed = _empty(groups, library.dynapilco_packed_floats(layers, width))
    library.dynapilco_pack(layers, width, groups, _pointers(weights), _pointers(biases), packed.data_ptr())
    return packed


class _Workspace:
    """A block of floats that goes back to its pool when its last user lets go of it."""

    __slots__ = ("floats", "pool")

    def __init__(self, pool: list[Tensor], size: int) -> None:
        self.pool = pool
        try:
            self.floats = pool.pop()
        except IndexError:
            self.floats = _empty(size)

    def __del__(self) -> None:
        self.pool.append(self.floats)


class _Shape:
    """One set of sizes: the constant C structure, the sizes of the workspaces and their pools."""

    def __init__(
        self, plan: SegmentPlan, widths: tuple[int, ...], candidates: int, particles: int, length: int
    ) -> None:
        packed, model = plan.packed(), plan.model
        d, m, draws = plan.transition.shape[0], plan.centre.shape[0], plan.draws
        o = plan.effect.shape[0]
        if widths[0] != d + 2 * len(plan.angles) or widths[-1] != m:
            raise ValueError(f"the policy has widths {widths}, not D + 2 A inputs and M outputs")
        for mask, w in zip(packed.masks, model.weights, strict=True):
            if mask is not None and mask.shape != (draws * particles, w.shape[2]):
                raise ValueError(f"a mask has shape {tuple(mask.shape)}, not (S * P, width)")
        rows = (candidates, draws, particles)
        if packed.damping is not None and len(packed.damping) not in (1, candidates):
            raise ValueError(f"damping holds {len(packed.damping)} decays for {candidates} candidates")
        self.start = torch.Size((*rows, d))
        self.states, self.actions = torch.Size((length, *rows, d)), torch.Size((length, *rows, m))
        self.outputs = torch.Size((length, *rows, o))
        self.layers = len(widths) - 1
        self.weights = [torch.Size((candidates, i, j)) for i, j in pairwise(widths)]
        self.biases = [torch.Size((candidates, j)) for j in widths[1:]]
        self._owner = packed  # keeps the memory behind the structure's pointers
        self._width = _int64s(widths)
        self.problem = _Problem(
            candidates=candidates, particles=draws * particles, groups=model.groups, length=length, state=d,
            angle_count=len(plan.angles), action=m, output=o, policy_layers=self.layers,
            model_layers=len(model.weights), policy_width=ctypes.addressof(self._width),
            model_width=ctypes.addressof(packed.model_width), angles=ctypes.addressof(packed.angles),
            model=packed.model.data_ptr(), masks=ctypes.addressof(packed.mask_pointers),
            motion=packed.motion.data_ptr(), centre=packed.centre.data_ptr(), half=packed.half.data_ptr(),
            damping=None if packed.damping is None else packed.damping.data_ptr(),
            damping_stride=0 if packed.damping is None or len(packed.damping) == 1 else d + 2,
            choice_count=len(plan.choices), choices=ctypes.addressof(packed.choices),
            carried=0 if plan.carry is None else m,
            model_silu=0 if plan.differentiable else 1,
            bounds=None if packed.bounds is None else packed.bounds.data_ptr(),
        )  # fmt: skip
        self.bounded = packed.bounds is not None
        self.address = ctypes.addressof(self.problem)
        sizes = _int64s([0, 0, 0])
        packed.library.dynapilco_sizes(self.address, sizes)
        self.saved_size, self.forward_size, self.backward_size = sizes
        self.saved_pool: list[Tensor] = []
        self.forward_pool: list[Tensor] = []
        self.backward_pool: list[Tensor] = []
        self.run_forward: Callable[..., None] = packed.library.dynapilco_forward
        self.run_backward: Callable[..., None] = packed.library.dynapilco_backward


# ----------------------------------------------------------------------------------------------------------
# The segment
# ----------------------------------------------------------------------------------------------------------


def fused_segment(
    plan: SegmentPlan,
    policy: DenseStack,
    start: Tensor,
    action_noise: Tensor | None = None,
    obs_noise: Tensor | None = None,
    process_noise: Tensor | None = None,
    *,
    length: int,
) -> tuple[Tensor, Tensor]:
    """Run ``length`` steps; differentiable in the policy's weights and biases and in ``start``.

    Parameters
    ----------
    plan : SegmentPlan
        The frozen model and the constants.
    policy : DenseStack
        R candidates: weights (R, in, out), D + 2 A inputs, M outputs, tanh hidden units, no masks.
    start : Tensor, shape (R, S, P, D)
        The state of every particle.
    action_noise : Tensor, shape (L, R, S, P, M), optional
        Added to the policy's output before it is squashed. No gradient flows to a noise.
    obs_noise : Tensor, shape (L, R, S, P, D), optional
        Added to the state that the policy sees.
    process_noise : Tensor, shape (L, R, S, P, O), optional
        Added to the model's output.
    length : int
        L, the number of steps.

    Returns
    -------
    states : Tensor, shape (L, R, S, P, D)
        The state after each step.
    actions : Tensor, shape (L, R, S, P, M)
        The action of each step.
    """
    weights, biases = policy.weights, policy.biases
    widths = (weights[0].shape[1], *[w.shape[2] for w in weights])
    shape = plan.shape(widths, weights[0].shape[0], start.shape[2], length)
    start = _checked(start, shape.start, "start")
    action_noise = _noise(action_noise, shape.actions, "action_noise")
    obs_noise = _noise(obs_noise, shape.states, "obs_noise")
    process_noise = _noise(process_noise, shape.outputs, "process_noise")
    tensors = [
        *[_checked(w, size, "a policy weight") for w, size in zip(weights, shape.weights, strict=True)],
        *[_checked(b, size, "a policy bias") for b, size in zip(biases, shape.biases, strict=True)],
    ]
    noises = (action_noise, obs_noise, process_noise)
    if torch.is_grad_enabled() and (start.requires_grad or any(x.requires_grad for x in tensors)):
        if not plan.differentiable:
            raise ValueError(f"the kernel has no gradient through {plan.model.activation} units")
        return _Segment.apply(shape, noises, start, *tensors)  # type: ignore[return-value]
    return _forward(shape, noises, start, tensors, None)


def _checked(x: Tensor, size: torch.Size, name: str) -> Tensor:
    if x.shape != size or x.dtype is not torch.float32 or not x.is_cpu:
        wanted = f"float32 {tuple(size)} on the CPU"
        raise ValueError(f"{name} must be {wanted}, got {x.dtype} {tuple(x.shape)} on {x.device}")
    return x if x.is_contiguous() else x.contiguous()


def _noise(x: Tensor | None, size: torch.Size, name: str) -> Tensor | None:
    if x is None:
        return None
    if x.requires_grad:
        raise ValueError(f"{name} requires a gradient, which the fused rollout does not give")
    return _checked(x, size, name)


_Noises = tuple[Tensor | None, Tensor | None, Tensor | None]


def _call(shape: _Shape, tensors: Sequence[Tensor]) -> tuple[_Call, Any, Any]:
    """Return a call structure with the policy filled in, and the arrays that must outlive it."""
    weights, biases = _pointers(tensors[: shape.layers]), _pointers(tensors[shape.layers :])
    return _Call(ctypes.addressof(weights), ctypes.addressof(biases)), weights, biases


def _forward(
    shape: _Shape, noises: _Noises, start: Tensor, tensors: Sequence[Tensor], saved: _Workspace | None
) -> tuple[Tensor, Tensor]:
    call, *alive = _call(shape, tensors)
    scratch = _Workspace(shape.forward_pool, shape.forward_size)
    states, actions = _empty(*shape.states), _empty(*shape.actions)
    action_noise, obs_noise, process_noise = noises
    call.start = start.data_ptr()
    if action_noise is not None:
        call.action_noise = action_noise.data_ptr()
    if obs_noise is not None:
        call.obs_noise = obs_noise.data_ptr()
    if process_noise is not None:
        call.process_noise = process_noise.data_ptr()
    call.states, call.actions, call.scratch = states.data_ptr(), actions.data_ptr(), scratch.floats.data_ptr()
    if saved is not None:
        call.saved = saved.floats.data_ptr()
    shape.run_forward(shape.address, ctypes.addressof(call))
    del alive
    return states, actions


def _backward(
    shape: _Shape,
    had_obs_noise: bool,
    tensors: Sequence[Tensor],
    saved: _Workspace,
    states: Tensor | None,
    grad_states: Tensor | None,
    grad_actions: Tensor | None,
) -> list[Tensor]:
    """Return the gradients of the start and of every weight and bias; ``states``: of a bounded forward pass."""
    call, *alive = _call(shape, tensors)
    scratch = _Workspace(shape.backward_pool, shape.backward_size)
    grads = [_empty(*shape.start), *[torch.empty_like(x) for x in tensors]]
    weights, biases = _pointers(grads[1 : 1 + shape.layers]), _pointers(grads[1 + shape.layers :])
    seen = [None if g is None else g.contiguous() for g in (grad_states, grad_actions)]  # alive until the call
    call.grad_states, call.grad_actions = [None if g is None else g.data_ptr() for g in seen]
    # The backward pass does not read this noise (the features hold it), only whether there was one.
    call.obs_noise = saved.floats.data_ptr() if had_obs_noise else None
    call.saved, call.scratch = saved.floats.data_ptr(), scratch.floats.data_ptr()
    if states is not None:
        call.states = states.data_ptr()
    call.grad_start = grads[0].data_ptr()
    call.grad_weights, call.grad_biases = ctypes.addressof(weights), ctypes.addressof(biases)
    shape.run_backward(shape.address, ctypes.addressof(call))
    del alive
    return grads


class _Segment(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shape: _Shape, noises: _Noises, start: Tensor, *tensors: Tensor) -> Any:
        ctx.set_materialize_grads(False)
        ctx.shape, ctx.had_obs_noise = shape, noises[1] is not None
        # A workspace of this segment alone: many segments may be alive before their backward passes.
        ctx.saved = _Workspace(shape.saved_pool, shape.saved_size)
        states, actions = _forward(shape, noises, start, tensors, ctx.saved)
        ctx.save_for_backward(*tensors, *((states,) if shape.bounded else ()))
        return states, actions

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        if grads[0] is None and grads[1] is None:
            return (None,) * (3 + 2 * ctx.shape.layers)
        tensors, states = ctx.saved_tensors, None
        if ctx.shape.bounded:
            *tensors, states = tensors
        return None, None, *_backward(ctx.shape, ctx.had_obs_noise, tensors, ctx.saved, states, grads[0], grads[1])


# ----------------------------------------------------------------------------------------------------------
# The check after loading
# ----------------------------------------------------------------------------------------------------------


@torch.inference_mode(False)
@torch.enable_grad()
def _self_check(library: Any) -> float:
    """Return the largest difference to torch, of a tiny segment and its gradients (NaN if any is)."""
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return 0.5 * torch.randn(size, generator=generator, dtype=torch.float32, device="cpu")

    model = DenseStack((normal(2, 6, 19), normal(2, 19, 2)), (normal(2, 19), normal(2, 2)), (None,))
    plan = SegmentPlan(
        model, (1,), normal(3, 3), normal(2, 3), normal(1), normal(1), 2, Damping(0.9, 0.5, torch.ones(3)),
        carry=normal(1, 3), bounds=torch.tensor([[-0.4], [0.4]], dtype=torch.float32, device="cpu").expand(2, 3),
    )  # fmt: skip
    object.__setattr__(plan, "_packed", _PackedPlan(plan, library))
    parts = [normal(1, 5, 9), normal(1, 9, 1), normal(1, 9), normal(1, 1)]
    start, noises = normal(1, 2, 3, 3), (normal(2, 1, 2, 3, 1), normal(2, 1, 2, 3, 3), normal(2, 1, 2, 3, 2))
    outcomes = []
    for fused in (True, False):
        leaves = [x.clone().requires_grad_() for x in (start, *parts)]
        policy = DenseStack((leaves[1], leaves[2]), (leaves[3], leaves[4]), (None,))
        if fused:
            states, actions = fused_segment(plan, policy, leaves[0], *noises, length=2)
        else:
            states, actions = _torch_segment(plan, policy, leaves[0], *noises)
        grads = torch.autograd.grad(states.square().sum() + actions.sum(), leaves)
        outcomes.append([states, actions, *grads])
    gaps = [(x.detach() - y.detach()).abs().max() for x, y in zip(*outcomes, strict=True)]
    return float(torch.stack(gaps).amax())


def _torch_segment(
    plan: SegmentPlan, policy: DenseStack, x: Tensor, action: Tensor, seen: Tensor, process: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the states and actions of one candidate with G = S, in plain torch."""
    angles, states, actions = list(plan.angles), [], []
    for t in range(action.shape[0]):
        x = damp(x, plan.damping)
        xo = x + seen[t]
        zp = torch.cat([xo, xo[..., angles].sin(), xo[..., angles].cos()], -1)
        a = policy(zp.flatten(1, 2)).view_as(action[t]) + action[t]
        u = plan.centre + plan.half * a.tanh()
        zm = torch.cat([x, x[..., angles].sin(), x[..., angles].cos(), u], -1)
        x = x @ plan.transition + (plan.model(zm[0])[None] + process[t]) @ plan.effect
        x = x if plan.carry is None else x + u @ plan.carry
        x = x if plan.bounds is None else x.clamp(*plan.bounds)
        states.append(x)
        actions.append(u)
    return torch.stack(states), torch.stack(actions)
