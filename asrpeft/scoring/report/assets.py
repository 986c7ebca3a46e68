"""Style and script of the list of utterances, kept in Python so that no build can forget to ship them. (`asrpeft.report.page` has the page's.)"""

ROW_STYLE = """
.bar{display:flex;gap:.8rem;flex-wrap:wrap;align-items:center;margin:.6rem
0;position:sticky;top:0;background:#fff;padding:.5rem 0} input,select{font:inherit;padding:.25rem .5rem;border:1px
solid #b6bcc6;border-radius:4px} article{border-top:1px solid var(--line);padding:.7rem 0}
article header{display:flex;gap:1rem;flex-wrap:wrap;font-size:.88rem;color:var(--dim);align-items:center}
article header b{color:var(--ink)}
audio{height:2rem}
.system{font-size:.85rem;color:var(--dim);margin:.45rem 0 .1rem}
.align{display:flex;flex-wrap:wrap;gap:.15rem .3rem}
.e{display:inline-flex;flex-direction:column;padding:.05rem .3rem;border-radius:3px;line-height:1.35}
.e>*{display:block;min-height:1.35em}
.e i{font:700 .68rem/1.2 system-ui;min-height:1em;text-align:center;font-style:normal}
.e.s{background:var(--sub)}
.e.d{background:var(--del)}
.e.n{background:var(--ins)}

.e .h{color:#33507a}
.e.same .h{color:#9aa1ab}
.key span{padding:.05rem .45rem;border-radius:3px;margin-right:.5rem}
@media print{.bar{display:none}article{break-inside:avoid}}
"""

SCRIPT = """
const list=document.getElementById('rows'),items=[...list.children],find=document.getElementById('find'),
order=document.getElementById('order'),only=document.getElementById('only'),count=document.getElementById('count');
function show(){const q=find.value.toLowerCase();let n=0;
for(const a of items){const ok=a.dataset.text.includes(q)&&(!only.checked||+a.dataset.errors>0);a.hidden=!ok;n+=ok}
count.textContent=n+' of '+items.length+' shown'}
function sort(){const
k=order.value;items.sort((a,b)=>k==='file'?a.dataset.place-b.dataset.place:b.dataset[k]-a.dataset[k]);
list.append(...items)} find.oninput=only.onchange=show;order.onchange=sort;show();
"""
