import sys

from services.admin.command_line import main

sys.exit(main())
