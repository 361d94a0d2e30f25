"""States carried over between adaptx and other libraries, mid-training: to rounding, the next step is the same."""

from .flat import load_state_dict as load_state_dict
from .flat import state_dict as state_dict
from .optax_states import from_optax as from_optax
from .optax_states import to_optax as to_optax
from .torch_states import from_torch as from_torch
from .torch_states import to_torch as to_torch
