"""Questions with known answers. Importing this package registers its data sets."""

from . import bundled as bundled
from . import hub as hub
from . import logic as logic
