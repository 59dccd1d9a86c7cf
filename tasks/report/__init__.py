"""`doit report`: what a matrix has become, as data and in Markdown, JSON and HTML.

`cells` and `releases` are the data, `gather` reads it; `markdown`, `json_form` and `page` are its
forms. Nothing here knows a clock, a host or a path outside the project: equal states of a build
have equal reports, byte by byte.
"""
