"""`rft dashboard`: a local web application that shows the runs of a folder and, in `jobs/`, starts them.

The run directories are the only source: nothing is stored twice. `view/` reads them, `pages/` holds the parts that the
report shares (templates, styles, uPlot), and this package adds routes. A further page plugs in as follows.

1. Write a module with plain functions `def show(request: Request) -> Response`. They run in threads, so they may read
   files. `context_of(request).folder` is the folder with the runs, `open_named(request)` the run that the path names.
2. Draw with `rendering.page(request, "start.html", title="Start a job", **values)`. The template lies in `templates/`
   and begins with `{% extends "layout.html" %}`; its content is in `{% block content %}`. Texts of a run or of a person
   go through `| visible`, which shows control characters as escapes; Jinja escapes the rest.
3. Give the module `ROUTES: list[BaseRoute]` and add the module to `app.pages`. A link in the bar stands in
   `rendering.NAVIGATION`.
4. Scripts and styles are files in `static/`, named in `assets.OWN`; a page's own script goes into its block `scripts`.
   The Content-Security-Policy allows no inline ones, and no `style` attributes.
5. POST needs nothing more: `access.Guard` has checked token, Host and Origin before a route is called.
   `await read_form(request)` reads the fields. Answer a POST with `RedirectResponse(url, status_code=303)`.
6. A `UsageError` that a route raises becomes a page with its message and fix: status 404 for a `NoSuchRun`, else 400.
7. With `rendering.page(..., etag=…, every=SECONDS)` the page asks for news while it is open: `dashboard.js` fetches the
   same address and replaces those elements with `id` and the attribute `data-live` that differ. Return
   `rendering.unchanged(request, etag)` first where it is not None; `state.state_of(run.path)` is what it is made of.

The page of a run includes `job_actions.html` if there is such a template; `run` is its `view.overview.Overview`.
"""
