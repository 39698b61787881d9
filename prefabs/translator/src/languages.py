"""Languages by code and by name."""

import re

from .failure import Failure

# code: name in English; further names: its own, Chinese ones.
LANGUAGES = {
    "af": "Afrikaans; 南非荷兰语", "am": "Amharic; አማርኛ; 阿姆哈拉语", "ar": "Arabic; العربية; 阿拉伯语; 阿拉伯文",
    "az": "Azerbaijani; azərbaycanca; 阿塞拜疆语", "be": "Belarusian; беларуская; 白俄罗斯语",
    "bg": "Bulgarian; български; 保加利亚语", "bn": "Bengali; Bangla; বাংলা; 孟加拉语",
    "bo": "Tibetan; བོད་ཡིག; 藏语; 藏文", "bs": "Bosnian; bosanski; 波斯尼亚语",
    "ca": "Catalan; català; 加泰罗尼亚语", "cs": "Czech; čeština; 捷克语", "cy": "Welsh; Cymraeg; 威尔士语",
    "da": "Danish; dansk; 丹麦语", "de": "German; Deutsch; 德语; 德文", "el": "Greek; ελληνικά; 希腊语",
    "en": "English; 英语; 英文", "eo": "Esperanto; 世界语",
    "es": "Spanish; español; castellano; 西班牙语; 西班牙文", "et": "Estonian; eesti; 爱沙尼亚语",
    "eu": "Basque; euskara; 巴斯克语", "fa": "Persian; Farsi; فارسی; 波斯语", "fi": "Finnish; suomi; 芬兰语",
    "fil": "Filipino; Tagalog; 菲律宾语; 他加禄语", "fr": "French; français; 法语; 法文",
    "ga": "Irish; Gaeilge; 爱尔兰语", "gl": "Galician; galego; 加利西亚语", "gu": "Gujarati; ગુજરાતી; 古吉拉特语",
    "ha": "Hausa; 豪萨语", "he": "Hebrew; עברית; 希伯来语", "hi": "Hindi; हिन्दी; हिंदी; 印地语",
    "hr": "Croatian; hrvatski; 克罗地亚语", "hu": "Hungarian; magyar; 匈牙利语",
    "hy": "Armenian; հայերեն; 亚美尼亚语", "id": "Indonesian; Bahasa Indonesia; 印尼语; 印度尼西亚语",
    "is": "Icelandic; íslenska; 冰岛语", "it": "Italian; italiano; 意大利语; 意大利文",
    "ja": "Japanese; 日本語; 日语; 日文; 日本语", "ka": "Georgian; ქართული; 格鲁吉亚语",
    "kk": "Kazakh; қазақша; 哈萨克语", "km": "Khmer; ខ្មែរ; 高棉语", "kn": "Kannada; ಕನ್ನಡ; 卡纳达语",
    "ko": "Korean; 한국어; 조선말; 韩语; 韩文; 韩国语; 朝鲜语", "ky": "Kyrgyz; кыргызча; 吉尔吉斯语",
    "la": "Latin; latina; 拉丁语", "lo": "Lao; ລາວ; 老挝语", "lt": "Lithuanian; lietuvių; 立陶宛语",
    "lv": "Latvian; latviešu; 拉脱维亚语", "mk": "Macedonian; македонски; 马其顿语",
    "ml": "Malayalam; മലയാളം; 马拉雅拉姆语", "mn": "Mongolian; монгол; 蒙古语", "mr": "Marathi; मराठी; 马拉地语",
    "ms": "Malay; Bahasa Melayu; 马来语", "my": "Burmese; မြန်မာ; 缅甸语", "nb": "Norwegian Bokmål; bokmål",
    "ne": "Nepali; नेपाली; 尼泊尔语", "nl": "Dutch; Nederlands; 荷兰语", "nn": "Norwegian Nynorsk; nynorsk",
    "no": "Norwegian; norsk; 挪威语", "pa": "Punjabi; ਪੰਜਾਬੀ; 旁遮普语", "pl": "Polish; polski; 波兰语",
    "ps": "Pashto; پښتو; 普什图语", "pt": "Portuguese; português; 葡萄牙语; 葡萄牙文",
    "ro": "Romanian; română; 罗马尼亚语", "ru": "Russian; русский; 俄语; 俄文", "si": "Sinhala; සිංහල; 僧伽罗语",
    "sk": "Slovak; slovenčina; 斯洛伐克语", "sl": "Slovenian; Slovene; slovenščina; 斯洛文尼亚语",
    "so": "Somali; Soomaali; 索马里语", "sq": "Albanian; shqip; 阿尔巴尼亚语",
    "sr": "Serbian; српски; srpski; 塞尔维亚语", "sv": "Swedish; svenska; 瑞典语",
    "sw": "Swahili; Kiswahili; 斯瓦希里语", "ta": "Tamil; தமிழ்; 泰米尔语", "te": "Telugu; తెలుగు; 泰卢固语",
    "th": "Thai; ไทย; 泰语; 泰文", "tr": "Turkish; Türkçe; 土耳其语", "ug": "Uyghur; ئۇيغۇرچە; 维吾尔语",
    "uk": "Ukrainian; українська; 乌克兰语", "ur": "Urdu; اردو; 乌尔都语",
    "uz": "Uzbek; oʻzbekcha; o'zbekcha; 乌兹别克语", "vi": "Vietnamese; Tiếng Việt; 越南语; 越南文",
    "yue": "Cantonese; 粵語; 粤语; 广东话; 廣東話",
    "zh": "Chinese; Mandarin; 中文; 汉语; 漢語; 普通话; 國語; 国语; 华语", "zu": "Zulu; isiZulu; 祖鲁语",
}  # fmt: skip

# Codes that name more than a language, and what to tell the model.
VARIANTS = {
    "zh": "Chinese (Simplified)", "zh-CN": "Chinese (Simplified, Mainland China)",
    "zh-SG": "Chinese (Simplified, Singapore)", "zh-Hans": "Chinese (Simplified)", "zh-Hant": "Chinese (Traditional)",
    "zh-TW": "Chinese (Traditional, Taiwan)", "zh-HK": "Chinese (Traditional, Hong Kong)",
    "zh-MO": "Chinese (Traditional, Macau)", "en-US": "American English", "en-GB": "British English",
    "pt-BR": "Brazilian Portuguese", "pt-PT": "European Portuguese", "es-MX": "Mexican Spanish",
    "es-ES": "European Spanish", "fr-CA": "Canadian French", "de-AT": "Austrian German", "de-CH": "Swiss German",
    "sr-Latn": "Serbian in Latin script", "sr-Cyrl": "Serbian in Cyrillic script",
}  # fmt: skip
NAMES_OF_VARIANTS = {
    "zh-Hans": "Simplified Chinese; Chinese (Simplified); Chinese Simplified; 简体中文; 简体; 中文简体; "
    "中文（简体）; 簡體中文",
    "zh-Hant": "Traditional Chinese; Chinese (Traditional); Chinese Traditional; 繁体中文; 繁體中文; 繁体; 繁體; "
    "中文繁体; 中文（繁體）; 正體中文",
    "en-US": "American English; US English; 美式英语", "en-GB": "British English; UK English; 英式英语",
    "pt-BR": "Brazilian Portuguese; 巴西葡萄牙语", "es-MX": "Mexican Spanish; 墨西哥西班牙语",
}  # fmt: skip
OLD_CODES = {"iw": "he", "in": "id", "tl": "fil", "cn": "zh", "cmn": "zh", "jp": "ja", "kr": "ko"}
CODE = re.compile(r"([a-z]{2,3})(?:-([a-z]{4}))?(?:-([a-z]{2}|\d{3}))?")


def _by_name() -> dict[str, str]:
    everything = NAMES_OF_VARIANTS | LANGUAGES
    return {name.casefold(): code for code, names in everything.items() for name in names.split("; ")}


BY_NAME = _by_name()


def code_of(given: str, parameter: str) -> str:
    """The code in its usual spelling: ZH_cn is zh-CN, 日本語 is ja."""
    plain = " ".join(given.split()).casefold()
    code = CODE.fullmatch(plain.replace("_", "-"))
    if code and (language := OLD_CODES.get(code[1], code[1])) in LANGUAGES:
        return "-".join([language, *([code[2].title()] if code[2] else []), *([code[3].upper()] if code[3] else [])])
    if found := BY_NAME.get(plain) or BY_NAME.get(plain.removesuffix(" language")):
        return found
    raise Failure(
        "INVALID_PARAMETER",
        f"`{parameter}`: {given[:40]!r} is not a known language; give a name, such as English, 中文 or 日本語, "
        f"or a code: {', '.join(sorted(LANGUAGES))} (also with a script or region, such as zh-TW or pt-BR)",
    )


def described(code: str) -> str:
    """For the model: English name and code, so that a region it was not told of by name still counts."""
    language = code.partition("-")[0]
    return f"{VARIANTS.get(code) or LANGUAGES[language].partition(';')[0]} [{code}]"
