"""The one exception that means: the user can mend this."""


class UserError(ValueError):
  """A mistake in a config, a file or a command, told in one line.

  The message names the place, the value and the mend. Commands print it
  without a traceback and exit with status 2.
  """


class BusyError(UserError):
  """Another process is at it."""
