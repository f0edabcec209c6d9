"""python -m xpnn"""

import sys

from xpnn.cli import main

sys.exit(main())
