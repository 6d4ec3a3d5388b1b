//! Style sheet of the report page.
//!
//! Leaves out: styles of figures (svg). Invariant: no external resource.

/// Light and dark, one column, tables that scroll on their own.
pub(super) const PAGE_STYLE: &str = "\
:root{color-scheme:light dark;--text:#24292f;--muted:#57606a;--back:#fff;--line:#d0d7de;--soft:#f6f8fa}\
@media (prefers-color-scheme:dark){:root{--text:#e6edf3;--muted:#9da7b3;--back:#0d1117;--line:#30363d;--soft:#161b22}}\
body{margin:0 auto;max-width:1080px;padding:28px 24px 64px;background:var(--back);color:var(--text);\
font:15px/1.5 system-ui,sans-serif}\
h1{font-size:26px;margin:0 0 4px}h2{font-size:20px;margin:44px 0 8px;padding-top:14px;border-top:1px solid var(--line)}\
h3{font-size:15px;margin:24px 0 6px}p{margin:6px 0}.muted{color:var(--muted)}\
.scroll{overflow-x:auto}table{border-collapse:collapse;margin:8px 0;font-variant-numeric:tabular-nums}\
th,td{padding:5px 12px 5px 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}\
th{font-weight:600;font-size:13px;vertical-align:bottom}td.first{white-space:nowrap}td.number,th.number{text-align:right}td.number{white-space:nowrap}th.number{max-width:110px}\
td small{color:var(--muted);display:block}tr.best td.first{font-weight:600}\
figure{margin:20px 0}figure svg{max-width:100%;height:auto}figcaption{color:var(--muted);font-size:13px;max-width:760px}\
.pair{display:flex;flex-wrap:wrap;gap:8px 32px}.pair figure{flex:1 1 440px;min-width:0}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 18px;margin:12px 0}dt{color:var(--muted)}dd{margin:0}\
.failed{border-left:4px solid #d55e00;background:var(--soft);padding:8px 14px}\
nav a{margin-right:14px}a{color:#0969da}@media (prefers-color-scheme:dark){a{color:#58a6ff}}\
@media print{body{max-width:none}h2{break-before:page}}";
