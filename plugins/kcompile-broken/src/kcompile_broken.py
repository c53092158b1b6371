"""A plugin that cannot be imported, to show what that costs its users."""

raise RuntimeError("this plugin is broken on purpose")
