"""The settings of a run: frozen, validated, unknown keys refused, canonical as JSON."""

from ltbench.config.augment import Augment as Augment
from ltbench.config.recipe import LARGEST_BATCH as LARGEST_BATCH
from ltbench.config.recipe import MOST_EPOCHS as MOST_EPOCHS
from ltbench.config.recipe import Recipe as Recipe
from ltbench.config.resolved_run import ResolvedRun as ResolvedRun
from ltbench.config.run_config import FEATURE_VIEWS as FEATURE_VIEWS
from ltbench.config.run_config import RunConfig as RunConfig
from ltbench.config.run_config import canonical_json as canonical_json
from ltbench.config.run_config import run_id as run_id
from ltbench.config.run_config import settings_text as settings_text
from ltbench.config.validation import Fraction as Fraction
from ltbench.config.validation import Frozen as Frozen
from ltbench.config.validation import NonNegative as NonNegative
from ltbench.config.validation import read_toml as read_toml
from ltbench.config.validation import validated as validated
