"""Optimizers built for a kind of model: what is known to train it, put together from the pieces of this library.

Every recipe takes the number of steps and returns an optimizer as you would have written it: `describe(params)` shows
which leaf is in which group, has decay, and which factor on the group's rate; `print(opt)` what it is made of. Regexes
are searched in paths as `describe` prints them: "block1/" finds "block1/kernel". Default rates are those that trained
small networks of up to some 10⁶ parameters well; large ones want less, and `find_lr` says how much. Rates that fall are
0 after total_steps. What each gains over AdamW at a constant rate, on a small model of its kind, is measured by
`benchmarks/recipes.py` and stands in its docstring.
"""

from .adapting import fine_tuning as fine_tuning
from .adapting import lora as lora
from .games import gan as gan
from .games import policy_gradient as policy_gradient
from .networks import cnn as cnn
from .networks import recommender as recommender
from .networks import rnn as rnn
from .networks import tabular as tabular
from .networks import transformer as transformer
from .pieces import falling as falling
from .pieces import warm_cosine as warm_cosine

ALL = {f.__name__: f for f in (cnn, rnn, transformer, gan, policy_gradient, recommender, fine_tuning, lora, tabular)}
