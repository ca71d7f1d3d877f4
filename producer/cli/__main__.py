"""`python -m producer.cli`: the command line where no `sendcode` is on the path."""

from producer.cli import main

main()
