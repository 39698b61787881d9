"""Names of regions that people add to a place, where the geocoder says them differently."""

# Other names of countries, and the code under which the geocoder lists them.
COUNTRIES = {
    "US": "usa, u.s., u.s.a., america, united states, united states of america, 美国",
    "GB": "uk, u.k., england, britain, great britain, scotland, wales, northern ireland, 英国",
    "CN": "china, prc, mainland china, 中国", "HK": "hong kong, 香港", "MO": "macao, macau, 澳门", "TW": "taiwan, 台湾",
    "JP": "japan, nippon, 日本", "KR": "korea, south korea, 韩国, 대한민국", "SG": "singapore, 新加坡",
    "MY": "malaysia, 马来西亚", "TH": "thailand, 泰国", "VN": "vietnam, việt nam, 越南", "IN": "india, 印度",
    "ID": "indonesia, 印度尼西亚, 印尼", "AE": "uae, united arab emirates, 阿联酋", "TR": "turkey, türkiye, 土耳其",
    "DE": "germany, deutschland, 德国", "AT": "austria, österreich, 奥地利", "CH": "switzerland, schweiz, suisse, 瑞士",
    "FR": "france, 法国", "ES": "spain, españa, 西班牙", "IT": "italy, italia, 意大利", "PT": "portugal, 葡萄牙",
    "NL": "netherlands, the netherlands, holland, nederland, 荷兰", "BE": "belgium, belgique, belgië, 比利时",
    "IE": "ireland, 爱尔兰", "SE": "sweden, sverige, 瑞典", "NO": "norway, norge, 挪威", "DK": "denmark, danmark, 丹麦",
    "FI": "finland, suomi, 芬兰", "PL": "poland, polska, 波兰", "CZ": "czechia, czech republic, 捷克",
    "GR": "greece, 希腊", "RU": "russia, россия, 俄罗斯", "UA": "ukraine, україна, 乌克兰",
    "EG": "egypt, 埃及", "ZA": "south africa, 南非", "BR": "brazil, brasil, 巴西", "AR": "argentina, 阿根廷",
    "MX": "mexico, méxico, 墨西哥", "CA": "canada, 加拿大", "AU": "australia, 澳大利亚", "NZ": "new zealand, 新西兰",
}  # fmt: skip

# Postal codes of the states of the USA and the provinces of Canada, as in "Portland, OR".
STATES = {
    "al": "alabama", "ak": "alaska", "az": "arizona", "ar": "arkansas", "ca": "california", "co": "colorado",
    "ct": "connecticut", "de": "delaware", "fl": "florida", "ga": "georgia", "hi": "hawaii", "id": "idaho",
    "il": "illinois", "in": "indiana", "ia": "iowa", "ks": "kansas", "ky": "kentucky", "la": "louisiana",
    "me": "maine", "md": "maryland", "ma": "massachusetts", "mi": "michigan", "mn": "minnesota",
    "ms": "mississippi", "mo": "missouri", "mt": "montana", "ne": "nebraska", "nv": "nevada",
    "nh": "new hampshire", "nj": "new jersey", "nm": "new mexico", "ny": "new york", "nc": "north carolina",
    "nd": "north dakota", "oh": "ohio", "ok": "oklahoma", "or": "oregon", "pa": "pennsylvania",
    "ri": "rhode island", "sc": "south carolina", "sd": "south dakota", "tn": "tennessee", "tx": "texas",
    "ut": "utah", "vt": "vermont", "va": "virginia", "wa": "washington", "wv": "west virginia",
    "wi": "wisconsin", "wy": "wyoming", "dc": "district of columbia", "d.c.": "district of columbia",
    "on": "ontario", "qc": "quebec", "bc": "british columbia", "ab": "alberta", "mb": "manitoba",
    "sk": "saskatchewan", "ns": "nova scotia", "nb": "new brunswick",
}  # fmt: skip

# What stands before a Chinese place without a comma: 浙江杭州, 浙江省杭州市.
PROVINCES = (
    "北京", "天津", "上海", "重庆", "河北", "山西", "辽宁", "吉林", "黑龙江", "江苏", "浙江", "安徽", "福建", "江西",
    "山东", "河南", "湖北", "湖南", "广东", "海南", "四川", "贵州", "云南", "陕西", "甘肃", "青海", "台湾", "内蒙古",
    "广西", "西藏", "宁夏", "新疆", "香港", "澳门",
)  # fmt: skip
OF_PROVINCES = ("特别行政区", "维吾尔自治区", "壮族自治区", "回族自治区", "自治区", "省", "市")
ENDINGS = (*OF_PROVINCES, "自治州", "地区", "区", "县", "镇")


def codes_of(name: str) -> set[str]:
    """The countries that this may name: a code of two letters or a name."""
    name = name.casefold()
    found = {code for code, names in COUNTRIES.items() if name in names.split(", ")}
    return found | ({name.upper()} if len(name) == 2 and name.isascii() and name.isalpha() else set())


def without_ending(name: str) -> str:
    """杭州市 is 杭州; a name keeps at least two characters."""
    for ending in ENDINGS:
        if name.endswith(ending) and len(name) - len(ending) >= 2:
            return name.removesuffix(ending)
    return name
