"""What each kind of node does: a module with `run(params, inputs, outputs)`.

An action reads only files below `inputs` and writes only below `outputs` (an empty directory);
it prints nothing, and knows neither doit nor the store. It returns warnings for the user, or
None. `TOOLS` names distributions it uses without importing them; `SERIAL` says that it may not run
in two threads of one process. Its key is the import closure of its module: import statically, and only what it needs.
"""
