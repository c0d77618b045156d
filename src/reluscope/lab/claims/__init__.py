"""The claims of [A] as predicates over stored runs: `judge(runs)` says which of them hold.

[A] is Hartmann, Franzen, Brodehl 2021, "Studying the Evolution of Neural Activation Patterns During Training of
Feed-Forward ReLU Networks".
"""

# claim
from reluscope.lab.claims.claim import Claim as Claim
from reluscope.lab.claims.claim import ClaimResult as ClaimResult
from reluscope.lab.claims.claim import Part as Part
from reluscope.lab.claims.claim import PartResult as PartResult

# made_up
from reluscope.lab.claims.made_up import made_up_study as made_up_study

# progress
from reluscope.lab.claims.progress import JudgingDisplay as JudgingDisplay
from reluscope.lab.claims.progress import JudgingProgress as JudgingProgress

# reading
from reluscope.lab.claims.reading import chosen_studies as chosen_studies
from reluscope.lab.claims.reading import find_runs as find_runs
from reluscope.lab.claims.reading import read_study as read_study

# registry
from reluscope.lab.claims.registry import CLAIMS as CLAIMS
from reluscope.lab.claims.registry import Judgement as Judgement
from reluscope.lab.claims.registry import judge as judge
from reluscope.lab.claims.registry import judge_folder as judge_folder
from reluscope.lab.claims.registry import judge_studies as judge_studies

# study
from reluscope.lab.claims.study import Study as Study

# table
from reluscope.lab.claims.table import claims_as_dict as claims_as_dict
from reluscope.lab.claims.table import claims_page as claims_page
from reluscope.lab.claims.table import verdict_counts as verdict_counts

# verdict
from reluscope.lab.claims.verdict import Check as Check
from reluscope.lab.claims.verdict import Verdict as Verdict

__all__ = [
    "CLAIMS",
    "Check",
    "Claim",
    "ClaimResult",
    "Judgement",
    "JudgingDisplay",
    "JudgingProgress",
    "Part",
    "PartResult",
    "Study",
    "Verdict",
    "chosen_studies",
    "claims_as_dict",
    "claims_page",
    "find_runs",
    "judge",
    "judge_folder",
    "judge_studies",
    "made_up_study",
    "read_study",
    "verdict_counts",
]
