"""The console: pages and a JSON API over `service/`. A page is a query in and HTML out, a button is an action.

To add a page: a module in `web/pages/` with a `router` and, where it stands in the navigation, a `NAV`; its template in
`web/templates/`. It is found by name. Every route states who may use it: `Depends(needs("reviewer"))`. Text of models
and people goes through the filter `said`, and never through `safe`. Nothing here is a rule of the business.
"""
