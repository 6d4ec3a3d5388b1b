//! Style sheet of the report page.
//!
//! Leaves out: styles of figures (svg). Invariant: no external resource; verdicts are told by word and
//! sign, never by colour alone.

/// Light and dark, one column, tables that scroll on their own.
pub(super) const PAGE_STYLE: &str = "\
:root{color-scheme:light dark;--text:#1f2328;--muted:#59636e;--back:#fff;--line:#d1d9e0;--soft:#f6f8fa;\
--link:#0969da;--good:#0072b2;--bad:#b34f00;--other:#8a5a83;--none:#8c959f;--good-soft:#e3f0f8;--bad-soft:#fbeade;--other-soft:#f6ebf4}\
@media (prefers-color-scheme:dark){:root{--text:#e6edf3;--muted:#9da7b3;--back:#0d1117;--line:#30363d;--soft:#161b22;\
--link:#58a6ff;--good:#6cb6e8;--bad:#f0995c;--other:#d9a3cf;--none:#7d8590;--good-soft:#10283a;--bad-soft:#3a2414;--other-soft:#33223080}}\
*{box-sizing:border-box}\
body{margin:0 auto;max-width:1120px;padding:28px 24px 72px;background:var(--back);color:var(--text);\
font:15px/1.5 system-ui,sans-serif;overflow-wrap:break-word}\
a{color:var(--link)}a:focus-visible,button:focus-visible,summary:focus-visible,.scroll:focus-visible{outline:2px solid var(--link);outline-offset:2px}\
h1{font-size:28px;line-height:1.2;margin:0 0 6px}h2{font-size:21px;line-height:1.3;margin:52px 0 6px;padding-top:16px;border-top:2px solid var(--line)}\
h3{font-size:16px;margin:28px 0 6px}h4{font-size:14px;margin:22px 0 4px}p{margin:6px 0;max-width:820px}.muted{color:var(--muted);font-size:13.5px}\
.lead{font-size:16px;color:var(--muted)}\
.scroll{overflow-x:auto;margin:8px 0}.scroll.tall{max-height:560px;overflow:auto;border-bottom:1px solid var(--line)}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{padding:5px 14px 5px 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}\
thead th{position:sticky;top:0;background:var(--back);font-weight:600;font-size:13px;line-height:1.3;vertical-align:bottom;z-index:1}\
th.number,td.number{text-align:right}td.number{white-space:nowrap}th.number{max-width:124px}\
th button{all:unset;display:inline;cursor:pointer}th button:hover{color:var(--link)}th button:focus-visible{outline:2px solid var(--link)}\
th button::after{color:var(--link);font-size:9px;padding-left:3px}\
th[aria-sort=ascending] button::after{content:'▲'}th[aria-sort=descending] button::after{content:'▼'}\
td.first{min-width:170px}td.word{white-space:nowrap}td small{color:var(--muted);display:block;font-size:12px}tr.best td.first{font-weight:600}\
.verdict{display:inline-block;white-space:nowrap;font-size:13px;padding:0 8px;border-radius:10px;border:1px solid currentColor;color:var(--none)}\
.agrees,.held{color:var(--good);background:var(--good-soft)}.differs,.broken{color:var(--bad);background:var(--bad-soft);font-weight:600}\
.other-examples{color:var(--other);background:var(--other-soft)}\
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));gap:14px;margin:16px 0}\
.card{border:1px solid var(--line);border-radius:8px;padding:12px 14px;background:var(--soft)}.card h3{margin:0 0 8px;font-size:15px}\
.card h3 a{text-decoration:none}.card p{font-size:13.5px;margin:4px 0}.card p.muted{font-size:13px}\
.bar{display:flex;height:12px;border-radius:6px;overflow:hidden;background:var(--line);margin:6px 0;gap:1px}\
.bar i{display:block;min-width:3px}.bar .agrees{background:var(--good)}.bar .differs{background:repeating-linear-gradient(135deg,var(--bad) 0 4px,transparent 4px 6px),var(--bad)}\
.bar .other-examples{background:var(--other)}.bar .undefined,.bar .no-reference{background:var(--none);opacity:.55}\
figure{margin:22px 0}figure .canvas{overflow-x:auto}figure svg{display:block;max-width:100%;height:auto}\
figcaption{color:var(--muted);font-size:13px;max-width:820px;margin-top:6px}.save{white-space:nowrap;margin-left:6px}\
.pair{display:flex;flex-wrap:wrap;gap:8px 32px;align-items:flex-start}.pair figure{flex:0 1 auto;min-width:0;max-width:100%}\
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:4px 20px;margin:12px 0}dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}\
.digest{font:12.5px ui-monospace,monospace;overflow-wrap:anywhere}\
.failed,.said{border-left:4px solid var(--bad);background:var(--soft);padding:8px 14px;margin:14px 0}.said{border-color:var(--other)}.failed ul{margin:6px 0;padding-left:20px}\
details.dataset{border:1px solid var(--line);border-radius:8px;padding:0 16px;margin:12px 0}\
details.dataset[open]{padding-bottom:14px}details.dataset>summary{cursor:pointer;padding:10px 0;font-weight:600}\
summary .muted{font-weight:400;margin-left:8px}details.more>summary{cursor:pointer;color:var(--link);margin:10px 0}\
button.all{font:inherit;font-size:13px;border:1px solid var(--line);border-radius:6px;background:var(--soft);color:var(--text);padding:3px 10px;cursor:pointer}\
nav{margin:14px 0;line-height:1.9}nav a{margin-right:16px;white-space:nowrap}\
@media (max-width:640px){body{padding:18px 14px 56px;font-size:15px}h1{font-size:23px}h2{font-size:19px}details.dataset{padding:0 10px}\
dl{grid-template-columns:minmax(0,1fr);gap:0}dd{margin-bottom:8px}figure svg{max-width:none}td.first{min-width:140px;font-size:14px}th,td{padding-right:11px}}\
@media print{body{max-width:none}h2{break-before:page}.scroll.tall{max-height:none}button{display:none}}";
