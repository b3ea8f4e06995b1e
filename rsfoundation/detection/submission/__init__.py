"""Archives for the evaluation servers of DOTA and FAIR1M, and the check that they will be accepted."""

from rsfoundation.detection.submission.check import Submission, check_submission
from rsfoundation.detection.submission.dota import write_dota
from rsfoundation.detection.submission.fair1m import write_fair1m

__all__ = ["Submission", "check_submission", "write_dota", "write_fair1m"]
