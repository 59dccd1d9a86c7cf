"""Running actions on a server of the Remote Execution API."""
